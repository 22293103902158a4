"""Ways down from one dashboard to the next, system → agents → tasks → errors, with what was chosen there."""

_CHOSEN = "var-datasource=${datasource}&${job:queryparam}"

SYSTEM = f"/d/busmon-system?{_CHOSEN}"
AGENTS = f"/d/busmon-agents?{_CHOSEN}"
TASKS = f"/d/busmon-tasks?{_CHOSEN}&${{agent:queryparam}}"
ERRORS = f"/d/busmon-errors?{_CHOSEN}&${{agent:queryparam}}"
PIPELINE = f"/d/busmon-pipeline?{_CHOSEN}"

AGENT = f"/d/busmon-agents?{_CHOSEN}&var-agent=${{__field.labels.agent}}"
TASKS_OF_AGENT = f"/d/busmon-tasks?{_CHOSEN}&var-agent=${{__field.labels.agent}}"
