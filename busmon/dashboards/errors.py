"""Error rate: what fails, where, since when, and how long does it stay broken?"""

from busmon.dashboards import levels, links
from busmon.dashboards.board import Board
from busmon.dashboards.panels import THIRD, Aim, Density, Lines, Listing, Number, Ranking
from busmon.dashboards.promql import (
    FAILED,
    FLEET,
    PROCESSED,
    chosen,
    increase,
    per_minute,
    quantile_within,
    recorded,
    share,
    top,
)

_ERRORS, _SERVICES = "type_severity:errors:rate5m", "service_message_class:service_errors:rate5m"
_REQUESTS = "endpoint_method_status:api_requests:rate5m"
_RATIO = share(chosen(*FAILED), chosen(*PROCESSED))
_RATIO_AIM = Aim(
    "Failed tasks over all. Aim for less than 0.5 %; 1 % calls someone.",
    levels.ERROR_RATIO,
    ("HighErrorRate", "ElevatedErrorRate", "TaskErrorBudgetBurnsFast"),
    links.TASKS,
)
_RECOVERY = "error_recovery_duration_seconds"

BOARD = Board(
    uid="busmon-errors",
    title="Error rate",
    about="Errors: what fails, where, since when, and how long does it stay broken?",
    rows={
        "At a glance": (
            Number("Error rate of tasks", _RATIO_AIM, _RATIO, "percentunit", decimals=2),
            Number(
                "Error rate of the API",
                Aim("Answers of class 5xx over all. Aim for less than 0.5 %.", levels.ERROR_RATIO, more=links.SYSTEM),
                share(recorded(_REQUESTS, "", f'{FLEET}, status="5xx"'), recorded(_REQUESTS)),
                "percentunit",
                decimals=2,
            ),
            Number(
                "Errors a minute",
                Aim("Of all types and severities. Aim for what is usual at this hour."),
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
                Aim("Alerts of tier P1 and P2 that fire now. Aim for 0.", levels.ANY),
                'count(ALERTS{alertstate="firing", tier=~"P1|P2"}) or vector(0)',
                "short",
            ),
        ),
        "Timeline": (
            Lines(
                "Error timeline",
                Aim("Errors a minute by severity. Aim for none; a step up beside a deploy's mark is the deploy's."),
                {"{{severity}}": per_minute(_ERRORS, "severity")},
                "errors/min",
                stacked=True,
                colours={"critical": "red", "error": "orange", "warning": "yellow"},
            ),
            Lines("Error rate of tasks", _RATIO_AIM, {"error rate": _RATIO}, "percentunit"),
        ),
        "What and where": (
            Lines(
                "Errors a minute, by type",
                Aim("The 8 most frequent types. Aim for none."),
                {"{{type}}": top(8, per_minute(_ERRORS, "type"), _ERRORS, "type")},
                "errors/min",
                stacked=True,
                span=THIRD,
            ),
            Ranking(
                "Error categories",
                Aim("In this time range, the 8 most frequent types. Aim for none, and begin with the longest bar."),
                {"{{type}}": f"sort_desc(topk(8, round({increase('errors_total', 'type')})))"},
                "short",
                span=THIRD,
            ),
            Density(
                "Error heatmap",
                Aim(
                    "Errors a minute by service and time, the 20 services with most. Aim for an even low colour: a "
                    "column that stands out is one cause for many, a row one service's own."
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
                    "The 15 most frequent classes of message in this time range. Aim for a ticket for each of "
                    "the first."
                ),
                f"topk(15, round({increase('service_errors_total', 'service, message_class')}))",
                {"service": "Service", "message_class": "Message", "Value": "Errors"},
                "short",
            ),
            Listing(
                "Alerts firing",
                Aim("Alerts that fire now, and for how long. Aim for an empty table."),
                'time() - ALERTS_FOR_STATE{tier=~"P.+"} and ignoring (alertstate) ALERTS{alertstate="firing"}',
                {"alertname": "Alert", "tier": "Tier", "service": "Service", "Value": "For"},
                "s",
            ),
        ),
        "Recovery": (
            Lines(
                "Error recovery time",
                Aim(
                    "From a service's first error until it worked again, of each hour. Aim for less than 5 minutes.",
                    levels.RECOVERY_SECONDS,
                ),
                {f"p{percent}": quantile_within(percent / 100, _RECOVERY, window="1h") for percent in (50, 95)},
                "s",
            ),
            Ranking(
                "Recovery time by service, p95",
                Aim(
                    "In this time range, the 8 that recover slowest. Aim for less than 5 minutes.",
                    levels.RECOVERY_SECONDS,
                ),
                {"{{service}}": f"sort_desc(topk(8, {quantile_within(0.95, _RECOVERY, 'service')}))"},
                "s",
            ),
        ),
    },
)
