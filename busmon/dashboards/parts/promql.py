"""PromQL that the panels share, for series that the rules record and for those that they don't.

`rate` stands before `sum`. Exporters of one registry directory show the same series under two `instance`s, which are
counted once: by `max`. Quantiles are taken of summed buckets; a part that has no series is 0 of the whole, not nothing.
Over days a panel of single agents reads their hourly series: `${level}` and `$lasting` choose them by the time range.
Pure text: `$job`, `$agent`, `${level}`, `$lasting`, `$__range` and `$__rate_interval` are for Grafana to fill in.
"""

FLEET = 'job=~"$job"'
"""Series of the chosen fleets."""

AGENTS = 'job=~"$job", agent=~"$agent"'
"""Series of the chosen agents of those."""

HOURLY_FROM_SECONDS = 172_800
"""A time range that is longer shows single agents by the hour."""

HOURLY = {"level": ("agent_hour", "agent"), "lasting": ("1h", "5m")}
"""The variables that depend on the time range: their values for hourly series, and for those of each moment."""

PROCESSED = "fleet:tasks_processed:rate5m", "agent:tasks_processed:rate5m"
FAILED = "fleet:tasks_failed:rate5m", "agent:tasks_failed:rate5m"
TASK_BUCKETS = "fleet:task_duration_seconds_bucket:rate5m", "agent:task_duration_seconds_bucket:rate5m"
"""What is recorded of tasks: of fleets, and of their agents, as `chosen` takes it."""


def sum_recorded(name: str, by: str = "", where: str = FLEET) -> str:
    """Sum a recorded series by these labels."""
    return f"{_sum(by)} ({name}{{{where}}})"


def per_minute(name: str, by: str = "", where: str = FLEET) -> str:
    """Sum a recorded rate, as an increase per minute, by these labels."""
    return f"60 * {sum_recorded(name, by, where)}"


def choose(fleets: str, agents: str, by: str = "", operation: str = "sum") -> str:
    """Select a recorded rate of the chosen agents; while all are chosen, that of fleets, which has far fewer series.

    Exactly one side has series: All is `.*`, which alone matches a fleet's missing label `agent`, and alone matches
    every name when it is repeated. A name that is two chosen ones in a row isn't expected.

    Args:
        fleets: the series recorded without `agent`.
        agents: those recorded with it.
        by: the labels to aggregate by.
        operation: the aggregation.
    """
    return f'{operation}{_sum(by)[3:]} ({fleets}{{{AGENTS}}} or {agents}{{{AGENTS}, agent!~"($agent){{2}}"}})'


def course(name: str) -> str:
    """Select a series that is recorded of each of the chosen agents, by the hour where the time range is long.

    A sample is taken for as long as it lasts, since hourly ones are further apart than Prometheus looks back.

    Args:
        name: the series' name without its level.
    """
    return f"last_over_time(${{level}}:{name}{{{AGENTS}}}[$lasting])"


def by_range(variable: str) -> str:
    """Make the query of one of the variables in HOURLY.

    A fleet that is younger than its first full hour has no hourly series, and shows those of each moment.
    """
    hourly, momentary = HOURLY[variable]
    there = "count(last_over_time(agent_hour:tasks_processed:rate5m[$__range]))"
    long = f"{there} and on () vector($__range_s) > {HOURLY_FROM_SECONDS}"
    named = f'label_replace({long}, "{variable}", "{hourly}", "", "")'
    return f'query_result({named} or on () label_replace(vector(1), "{variable}", "{momentary}", "", ""))'


def fill(query: str, *, is_hourly: bool) -> str:
    """Fill in the variables of HOURLY, as Grafana does."""
    for variable, (hourly, momentary) in HOURLY.items():
        value = hourly if is_hourly else momentary
        query = query.replace(f"${{{variable}}}", value).replace(f"${variable}", value)
    return query


def rate(counter: str, by: str = "", where: str = FLEET) -> str:
    """Sum a counter's increase per second by these labels."""
    return f"{_sum(by)} (max without (instance) (rate({counter}{{{where}}}[$__rate_interval])))"


def increase(counter: str, by: str = "", where: str = FLEET, window: str = "$__range") -> str:
    """Sum a counter's increase in the whole time range or another window by these labels."""
    return f"{_sum(by)} (max without (instance) (increase({counter}{{{where}}}[{window}])))"


def total(gauge: str, by: str = "", where: str = FLEET) -> str:
    """Sum of a gauge over registries, by these labels."""
    return f"{_sum(by)} (max without (instance) ({gauge}{{{where}}}))"


def largest(gauge: str, by: str, where: str = FLEET) -> str:
    """Take the maximum of a gauge by these labels."""
    return f"max by ({by}) ({gauge}{{{where}}})"


def quantile(share_: float, buckets: str, by: str = "", where: str = FLEET) -> str:
    """Compute a quantile of a histogram whose buckets' rates are recorded, by these labels."""
    return f"histogram_quantile({share_}, {sum_recorded(buckets, _le(by), where)})"


def task_quantile(share_: float) -> str:
    """Compute a quantile of the chosen agents' task duration."""
    return f"histogram_quantile({share_}, {choose(*TASK_BUCKETS, 'le')})"


def quantile_within(share_: float, histogram: str, by: str = "", window: str = "$__range") -> str:
    """Compute a quantile of all observations in the time range or another window: for rare events."""
    return f"histogram_quantile({share_}, {increase(f'{histogram}_bucket', _le(by), window=window)})"


def share(part: str, whole: str) -> str:
    """Divide a part by the whole: 0 without a part, no value without a whole."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def or_none(expression: str, label: str) -> str:
    """Return the expression, with a 0 named `none` while it has no series."""
    return f'{expression} or on () label_replace(vector(0), "{label}", "none", "", "")'


def top(count: int, expression: str, name: str, by: str, where: str = FLEET) -> str:
    """Select the series of an expression over the recorded series `name` with the largest mean in the time range.

    Ranked once for the whole range: a `topk` of each step would draw other series at each.
    """
    return f"{expression} and on ({by}) topk({count}, {_sum(by)} (avg_over_time({name}{{{where}}}[$__range] @ end())))"


def top_agents(count: int, name: str, operation: str = "sum", factor: str = "") -> str:
    """Select the agents with the largest mean of a series that is recorded of each agent, named without its level."""
    expression = f"{factor}{operation} by (agent) ({course(name)})"
    return top(count, expression, f"${{level}}:{name}", "agent", AGENTS)


def _sum(by: str) -> str:
    return f"sum by ({by})" if by else "sum"


def _le(by: str) -> str:
    return f"{by}, le" if by else "le"
