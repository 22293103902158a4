"""Error rate: what fails, where, since when, and how long does it stay broken?"""

from busmon.dashboards.parts import levels, links
from busmon.dashboards.parts.board import Board
from busmon.dashboards.parts.panels import THIRD, Aim, Density, Lines, Listing, Number, Ranking
from busmon.dashboards.parts.promql import (
    FAILED,
    FLEET,
    PROCESSED,
    choose,
    increase,
    per_minute,
    quantile_within,
    share,
    sum_recorded,
    top,
)

_ERRORS, _SERVICES = "type_severity:errors:rate5m", "service_message_class:service_errors:rate5m"
_REQUESTS = "endpoint_method_status:api_requests:rate5m"
_RATIO = share(choose(*FAILED), choose(*PROCESSED))
_RATIO_AIM = Aim(
    "Failed tasks divided by all tasks. Aim for less than 0.5 %; above 1 %, an alert pages.",
    levels.ERROR_RATIO,
    ("HighErrorRate", "ElevatedErrorRate", "TaskErrorBudgetBurnsFast"),
    links.TASKS,
)
_RECOVERY = "error_recovery_duration_seconds"

BOARD = Board(
    uid="busmon-errors",
    title="Error rate",
    about="Errors: what fails, where, since when, and for how long?",
    rows={
        "At a glance": (
            Number("Task error rate", _RATIO_AIM, _RATIO, "percentunit", decimals=2),
            Number(
                "API error rate",
                Aim(
                    "Responses of class 5xx divided by all responses. Aim for less than 0.5 %.",
                    levels.ERROR_RATIO,
                    more=links.SYSTEM,
                ),
                share(sum_recorded(_REQUESTS, "", f'{FLEET}, status="5xx"'), sum_recorded(_REQUESTS)),
                "percentunit",
                decimals=2,
            ),
            Number(
                "Errors per minute",
                Aim("Of all types and severities. Aim for the usual number at this hour."),
                per_minute(_ERRORS),
                "short",
                decimals=1,
            ),
            Number(
                "Critical errors",
                Aim("In this time range. Aim for 0.", levels.ANY, ("HighErrorRate",)),
                increase("errors_total", "", f'{FLEET}, severity="critical"'),
                "locale",
                decimals=0,
            ),
            Number(
                "Recovery time, p95",
                Aim("Of the errors in this time range. Aim for less than 5 minutes.", levels.RECOVERY_SECONDS),
                quantile_within(0.95, _RECOVERY),
                "s",
                decimals=0,
            ),
            Number(
                "Alerts firing",
                Aim("Firing alerts of tier P1 and P2. Aim for 0.", levels.ANY),
                'count(ALERTS{alertstate="firing", tier=~"P1|P2"}) or vector(0)',
                "short",
            ),
        ),
        "Timeline": (
            Lines(
                "Error timeline",
                Aim(
                    "Errors per minute by severity. Aim for none; a step up next to a deploy's mark comes "
                    "from the deploy."
                ),
                {"{{severity}}": per_minute(_ERRORS, "severity")},
                "errors/min",
                stacked=True,
                colours={"critical": "red", "error": "orange", "warning": "yellow"},
            ),
            Lines("Task error rate", _RATIO_AIM, {"error rate": _RATIO}, "percentunit"),
        ),
        "Types and services": (
            Lines(
                "Errors per minute, by type",
                Aim("The 8 most frequent types. Aim for none."),
                {"{{type}}": top(8, per_minute(_ERRORS, "type"), _ERRORS, "type")},
                "errors/min",
                stacked=True,
                span=THIRD,
            ),
            Ranking(
                "Error categories",
                Aim("In this time range, the 8 most frequent types. Aim for none; start with the longest bar."),
                {"{{type}}": f"sort_desc(topk(8, round({increase('errors_total', 'type')})))"},
                "short",
                span=THIRD,
            ),
            Density(
                "Error heatmap",
                Aim(
                    "Errors per minute by service and time, the 20 services with most. Aim for an even low "
                    "colour: a bright column is one cause for many services, a bright row one service's own."
                ),
                {"{{service}}": top(20, per_minute(_SERVICES, "service"), _SERVICES, "service")},
                "short",
                span=THIRD,
            ),
        ),
        "Details": (
            Listing(
                "Top errors",
                Aim(
                    "The 15 most frequent message classes in this time range. Aim for a ticket for each of "
                    "the first ones."
                ),
                f"topk(15, round({increase('service_errors_total', 'service, message_class')}))",
                {"service": "Service", "message_class": "Message", "Value": "Errors"},
                "short",
            ),
            Listing(
                "Alerts firing",
                Aim("Firing alerts and their duration. Aim for an empty table."),
                'time() - ALERTS_FOR_STATE{tier=~"P.+"} and ignoring (alertstate) ALERTS{alertstate="firing"}',
                {"alertname": "Alert", "tier": "Tier", "service": "Service", "Value": "For"},
                "s",
            ),
        ),
        "Recovery": (
            Lines(
                "Error recovery time",
                Aim(
                    "Time from a service's first error until it worked again, for each hour. Aim for less "
                    "than 5 minutes.",
                    levels.RECOVERY_SECONDS,
                ),
                {f"p{percent}": quantile_within(percent / 100, _RECOVERY, window="1h") for percent in (50, 95)},
                "s",
            ),
            Ranking(
                "Recovery time by service, p95",
                Aim(
                    "In this time range, the 8 slowest services. Aim for less than 5 minutes.",
                    levels.RECOVERY_SECONDS,
                ),
                {"{{service}}": f"sort_desc(topk(8, {quantile_within(0.95, _RECOVERY, 'service')}))"},
                "s",
            ),
        ),
    },
)
