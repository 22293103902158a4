"""System health: is the ground that everything stands on sound, and if not, which part of it?"""

from busmon.dashboards.parts import levels, links
from busmon.dashboards.parts.board import Board
from busmon.dashboards.parts.panels import THIRD, Aim, Lines, Number, Ranking, States
from busmon.dashboards.parts.promql import FLEET, largest, or_none, quantile, share, sum_recorded

_UP_OR_DOWN = {"0": ("down", "red"), "1": ("up", "green")}
_CPU = "max by (instance) (instance:node_cpu:utilisation_rate1m)"
_MEMORY = "max by (instance) (instance:node_memory:utilisation)"
_DISK = "max by (instance, mountpoint) (instance_mountpoint:node_filesystem:utilisation)"
_POOLS = f"max by (type) (type:connection_pool:utilisation{{{FLEET}}})"
_REQUESTS = "endpoint_method_status:api_requests:rate5m"
_EXPIRY = f"(min by (certificate) (certificate_expiry_timestamp_seconds{{{FLEET}}}) - time()) / 86400"

BOARD = Board(
    uid="busmon-system",
    title="System health",
    about="Hosts, connection pools and services: are they healthy?",
    rows={
        "At a glance": (
            Number(
                "Services down",
                Aim(
                    "Services that fail their health check. Aim for 0.",
                    levels.ANY,
                    ("DependencyDown",),
                    links.PIPELINE,
                ),
                f"count(service:service_up:min{{{FLEET}}} == 0) or vector(0)",
                "short",
            ),
            Number(
                "Targets down",
                Aim("Targets that Prometheus can't scrape. Aim for 0.", levels.ANY, ("ServiceDown", "ServiceAbsent")),
                "count(up == 0) or vector(0)",
                "short",
            ),
            Number(
                "Alerts firing",
                Aim("Firing alerts of tier P1 and P2. Aim for 0.", levels.ANY, more=links.ERRORS),
                'count(ALERTS{alertstate="firing", tier=~"P1|P2"}) or vector(0)',
                "short",
            ),
            Number(
                "CPU of the busiest host",
                Aim("Share of CPU time in use. Aim for less than 80 %.", levels.CPU, ("HighCpuUsage",)),
                f"max({_CPU})",
                "percentunit",
            ),
            Number(
                "Memory of the fullest host",
                Aim("Share of memory in use. Aim for less than 85 %.", levels.MEMORY, ("HighMemoryUsage",)),
                f"max({_MEMORY})",
                "percentunit",
            ),
            Number(
                "Fullest disk",
                Aim("Share of a file system in use. Aim for less than 80 %.", levels.DISK, ("HostDiskFilling",)),
                f"max({_DISK})",
                "percentunit",
            ),
        ),
        "Services": (
            States(
                "Service status",
                Aim(
                    "Health checks of services and dependencies, of the worst replica or client. Aim for green.",
                    runbooks=("DependencyDown",),
                ),
                {"{{service}}": f"min by (service) (service:service_up:min{{{FLEET}}})"},
                _UP_OR_DOWN,
            ),
            States(
                "Scrape targets",
                Aim(
                    "Whether Prometheus could scrape all of a job's targets. Aim for green.",
                    runbooks=("ServiceDown", "ServiceAbsent"),
                    more=links.PIPELINE,
                ),
                {"{{job}}": "min by (job) (up)"},
                _UP_OR_DOWN,
            ),
        ),
        "CPU and memory": (
            Lines(
                "CPU usage by host",
                Aim("Share of CPU time that isn't idle. Aim for less than 80 %.", levels.CPU, ("HighCpuUsage",)),
                {"{{instance}}": _CPU},
                "percentunit",
                top=1,
            ),
            Lines(
                "Memory usage by host",
                Aim(
                    "Share of memory that isn't available. Aim for less than 85 %.", levels.MEMORY, ("HighMemoryUsage",)
                ),
                {"{{instance}}": _MEMORY},
                "percentunit",
                top=1,
            ),
            Lines(
                "CPU usage by core, reported by agents",
                Aim(
                    "For hosts without a node_exporter; of the busiest host. Aim for less than 80 %: a single "
                    "core at 100 % is one thread's limit."
                ),
                {"core {{core}}": largest("cpu_usage_percent", "core")},
                "percent",
                top=100,
            ),
            Lines(
                "Process memory, share of the limit",
                Aim(
                    "The largest replica's resident memory divided by the smallest limit. Aim for less than "
                    "85 %; a line that only rises is a leak.",
                    levels.MEMORY,
                    ("HighMemoryUsage", "MemoryLeak", "MemoryNearlyExhausted"),
                    links.AGENTS,
                ),
                {"{{process}}": f"max by (process) (process:memory:utilisation{{{FLEET}}})"},
                "percentunit",
                top=1,
            ),
        ),
        "Network and disk": (
            Lines(
                "Network I/O",
                Aim(
                    "Bytes per second; sent is below zero. Aim for less than the link's speed: a flat top is "
                    "a full link."
                ),
                {
                    "{{instance}} received": "sum by (instance) (instance:node_network_receive_bytes:rate1m)",
                    "{{instance}} sent": "-sum by (instance) (instance:node_network_transmit_bytes:rate1m)",
                },
                "Bps",
                span=THIRD,
            ),
            Ranking(
                "Disk usage",
                Aim(
                    "Share of a file system in use, the 8 fullest. Aim for less than 80 %.",
                    levels.DISK,
                    ("HostDiskFilling",),
                ),
                {"{{instance}} {{mountpoint}}": f"topk(8, {_DISK})"},
                "percentunit",
                span=THIRD,
                top=1,
            ),
            Lines(
                "Disk I/O",
                Aim("Bytes per second; written is below zero. Aim for no flat top: that is the disk's limit."),
                {
                    "{{instance}} read": "sum by (instance) (instance:node_disk_read_bytes:rate1m)",
                    "{{instance}} written": "-sum by (instance) (instance:node_disk_written_bytes:rate1m)",
                },
                "Bps",
                span=THIRD,
            ),
        ),
        "Connection pools": (
            Ranking(
                "Pools in use now",
                Aim(
                    "Used connections divided by the pools' size. Aim for less than 80 %: from 95 % on, callers wait.",
                    levels.POOL,
                    ("DatabaseConnectionPoolExhausted",),
                ),
                {"{{type}}": _POOLS},
                "percentunit",
                span=THIRD,
                top=1,
            ),
            Lines(
                "Pools in use",
                Aim(
                    "The same over time. Aim for ups and downs: a pool that stays full leaks connections.",
                    levels.POOL,
                    ("DatabaseConnectionPoolExhausted",),
                ),
                {"{{type}}": _POOLS},
                "percentunit",
                span=THIRD,
                top=1,
            ),
            Lines(
                "Connections",
                Aim("In use by all processes' pools, and open by RabbitMQ's own count. Aim for stable lines."),
                {
                    "{{type}}, in use": sum_recorded("type:connection_pool_active:sum", "type"),
                    "rabbitmq, open": "sum(rabbitmq_connections)",
                },
                "short",
                span=THIRD,
                dashed=("rabbitmq, open",),
            ),
        ),
        "Interfaces": (
            Lines(
                "API response time, p95",
                Aim(
                    "By endpoint. Aim for less than 2 s.",
                    levels.RESPONSE_SECONDS,
                    ("SlowResponseTime", "ResponseTimesSpike"),
                    links.TASKS,
                ),
                {"{{endpoint}}": f"max by (endpoint) (endpoint:api_request_duration_seconds:p95_5m{{{FLEET}}})"},
                "s",
                span=THIRD,
            ),
            Lines(
                "Failed API requests",
                Aim(
                    "Responses of class 5xx divided by all responses. Aim for less than 0.5 %.",
                    levels.ERROR_RATIO,
                    more=links.ERRORS,
                ),
                {
                    "{{endpoint}}": share(
                        sum_recorded(_REQUESTS, "endpoint", f'{FLEET}, status="5xx"'),
                        sum_recorded(_REQUESTS, "endpoint"),
                    )
                },
                "percentunit",
                span=THIRD,
            ),
            Lines(
                "Database queries, p95",
                Aim(
                    "By operation. Aim for lines that stay together: a line that rises alone is a missing "
                    "index, or a lock."
                ),
                {
                    "{{operation}}": quantile(
                        0.95, "operation:database_query_duration_seconds_bucket:rate5m", "operation"
                    )
                },
                "s",
                span=THIRD,
            ),
        ),
        "Upcoming changes": (
            Ranking(
                "Certificates expire in",
                Aim(
                    "Days until a TLS certificate expires, the next 8. Aim for more than 30.",
                    levels.CERTIFICATE_DAYS,
                    ("CertificateExpiresSoon", "CertificateExpiresVerySoon"),
                ),
                {"{{certificate}}": f"bottomk(8, {_EXPIRY})"},
                "suffix: days",
                span=THIRD,
            ),
            Lines(
                "Circuit breakers not closed",
                Aim(
                    "Processes with an open or half open breaker: they work without the dependency. Aim for 0.",
                    levels.ANY,
                    ("DependencyBreakerOpen",),
                ),
                {
                    "{{breaker}} {{state}}": sum_recorded(
                        "breaker_state:circuit_breaker_state:sum", "breaker, state", f'{FLEET}, state!="closed"'
                    )
                },
                "short",
                span=THIRD,
            ),
            Lines(
                "Configuration reloads",
                Aim(
                    "Per 5 minutes, by result. Aim for no failure: it keeps the old configuration.",
                    runbooks=("ConfigurationChanged", "ConfigurationReloadFailed"),
                ),
                {"{{result}}": or_none(sum_recorded("service_result:config_reloads:increase5m", "result"), "result")},
                "short",
                span=THIRD,
                colours={"success": "green", "failure": "red"},
            ),
        ),
    },
)
