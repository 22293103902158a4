"""The pipeline: does everything that agents publish reach Prometheus, and how soon?

Its rows follow the data's way.
"""

from busmon.dashboards.parts import levels
from busmon.dashboards.parts.board import Board
from busmon.dashboards.parts.panels import THIRD, Aim, Lines, Listing, Number, States
from busmon.dashboards.parts.promql import FLEET, increase, largest, or_none, quantile, rate, sum_recorded, top

_BROKER = "sum (rate(rabbitmq_global_messages_{}_total[$__rate_interval]))"
_ENVELOPES = "shard:busmon_envelopes_consumed:rate1m"
_LATENCY = "queue:message_latency_seconds_bucket:rate1m"
_REJECTED, _REFUSED = "reason:busmon_envelopes_rejected:rate5m", "agent_reason:busmon_samples_rejected:rate5m"
_OVERFLOW = "metric_label_agent:busmon_label_overflow:rate5m"
_DROPPED, _SKEW = "agent:busmon_publisher_dropped:rate5m", "agent:busmon_clock_skew:rate5m"
_COMMITS = rate("busmon_commit_duration_seconds_bucket", "le")
_SCRAPES = f"sum by (le) (rate(busmon_scrape_duration_seconds_bucket{{{FLEET}}}[$__rate_interval]))"

BOARD = Board(
    uid="busmon-pipeline",
    title="Telemetry pipeline",
    about="From publish to alert: does everything that agents publish reach Prometheus, and how soon?",
    rows={
        "At a glance": (
            Number(
                "Envelopes per second",
                Aim("Committed by all shards. Aim for the rate that agents publish.", runbooks=("PipelineStalled",)),
                sum_recorded("fleet:busmon_envelopes_consumed:rate1m"),
                "short",
                decimals=1,
            ),
            Number(
                "Latency, p95",
                Aim(
                    "From publish to consumption. Aim for less than a second.",
                    levels.PIPELINE_SECONDS,
                    ("PipelineLatencyHigh",),
                ),
                quantile(0.95, _LATENCY, "", f'{FLEET}, queue=~".*[.]fold[.].*"'),
                "s",
            ),
            Number(
                "Envelopes waiting",
                Aim("In all shards' queues. Aim for a few.", levels.QUEUE, ("PipelineStalled", "QueueBackup")),
                sum_recorded("fleet:busmon_queue_depth:sum"),
                "locale",
                decimals=0,
            ),
            Number(
                "Shards not consumed",
                Aim("Aim for 0: the queue of an unconsumed shard only grows.", levels.ANY, ("PipelineNotConsuming",)),
                f"count(shard:busmon_shard_consuming:max{{{FLEET}}} == 0) or vector(0)",
                "short",
            ),
            Number(
                "Quarantined bodies",
                Aim("In this time range. Aim for 0.", levels.ANY, ("QuarantineGrows",)),
                f"{increase('busmon_envelopes_rejected_total')} or vector(0)",
                "locale",
                decimals=0,
            ),
            Number(
                "Workers down",
                Aim(
                    "Workers that the fleet should have and are down. Aim for 0.",
                    levels.ANY,
                    ("WorkerDown", "WorkerCrashLoops"),
                ),
                f"count(worker:busmon_worker_up:max{{{FLEET}}} == 0) or vector(0)",
                "short",
            ),
        ),
        "Publish and confirm": (
            Lines(
                "Published, confirmed and returned",
                Aim("Messages per second, by RabbitMQ. Aim for as many confirmed as published, and none returned."),
                {
                    "published": _BROKER.format("received_confirm"),
                    "confirmed": _BROKER.format("confirmed"),
                    "returned": _BROKER.format("unroutable_returned"),
                },
                "messages/s",
                span=THIRD,
                dashed=("confirmed",),
            ),
            Lines(
                "Samples dropped by publishers",
                Aim(
                    "Per second, by agent: buffers were full while the broker was unreachable. Aim for none.",
                    levels.ANY,
                    ("PublisherDropsSamples",),
                ),
                {"{{agent}}": or_none(top(8, sum_recorded(_DROPPED, "agent"), _DROPPED, "agent"), "agent")},
                "samples/s",
                span=THIRD,
            ),
            Lines(
                "Clock skew",
                Aim(
                    "Envelopes per second with a future time, by agent. Aim for none: set these clocks.",
                    levels.ANY,
                    ("ClockSkew",),
                ),
                {"{{agent}}": or_none(top(8, sum_recorded(_SKEW, "agent"), _SKEW, "agent"), "agent")},
                "envelopes/s",
                span=THIRD,
            ),
        ),
        "Queue": (
            Lines(
                "Envelopes waiting, by queue",
                Aim("Ready in the shards' queues. Aim for a few.", levels.QUEUE, ("PipelineStalled", "QueueBackup")),
                {"{{queue}}": largest("busmon_queue_depth", "queue")},
                "short",
                span=THIRD,
            ),
            Lines(
                "Latency from publish to consumption",
                Aim("Aim for a p99 of less than a second.", levels.PIPELINE_SECONDS, ("PipelineLatencyHigh",)),
                {
                    f"p{percent}": quantile(percent / 100, _LATENCY, "", f'{FLEET}, queue=~".*[.]fold[.].*"')
                    for percent in (50, 95, 99)
                },
                "s",
                span=THIRD,
            ),
            Lines(
                "Broker memory and disk",
                Aim(
                    "Used memory divided by the limit, and the disk limit divided by free disk. Aim for less "
                    "than 80 %: at 100 % RabbitMQ blocks all publishers.",
                    levels.BROKER,
                    ("BrokerAlarm",),
                ),
                {
                    "memory": "max(rabbitmq_process_resident_memory_bytes / rabbitmq_resident_memory_limit_bytes)",
                    "disk": "max(rabbitmq_disk_space_available_limit_bytes / rabbitmq_disk_space_available_bytes)",
                },
                "percentunit",
                span=THIRD,
                top=1,
            ),
        ),
        "Consume and decode": (
            States(
                "Shards",
                Aim(
                    "Whether a worker consumes the shard. Aim for green.",
                    runbooks=("PipelineNotConsuming", "WorkerDown"),
                ),
                {"shard {{shard}}": f"max by (shard) (shard:busmon_shard_consuming:max{{{FLEET}}})"},
                {"0": ("not consumed", "red"), "1": ("consumed", "green")},
                span=THIRD,
            ),
            Lines(
                "Envelopes per second, by shard",
                Aim("Aim for similar rates: a shard with much more has a source with much more."),
                {"shard {{shard}}": sum_recorded(_ENVELOPES, "shard")},
                "envelopes/s",
                span=THIRD,
                stacked=True,
            ),
            Lines(
                "Quarantined bodies, by reason",
                Aim(
                    "Per second. Aim for none; `busmon quarantine list` shows the bodies.",
                    levels.ANY,
                    ("QuarantineGrows", "QuarantineDropsBodies"),
                ),
                {"{{reason}}": or_none(sum_recorded(_REJECTED, "reason"), "reason")},
                "bodies/s",
                span=THIRD,
            ),
        ),
        "Fold": (
            Lines(
                "Samples folded, by type",
                Aim("Per second. Aim for lines that follow the envelopes."),
                {"{{type}}": sum_recorded("type:busmon_samples_folded:rate1m", "type")},
                "samples/s",
                span=THIRD,
                stacked=True,
            ),
            Lines(
                "Rejected samples, by agent and reason",
                Aim(
                    "Per second, the 8 most frequent. Aim for none: tell the agent's owner.",
                    levels.ANY,
                    ("SamplesRejected",),
                ),
                {
                    "{{agent}} {{reason}}": or_none(
                        top(8, sum_recorded(_REFUSED, "agent, reason"), _REFUSED, "agent, reason"), "agent"
                    )
                },
                "samples/s",
                span=THIRD,
            ),
            Lines(
                "Label values over budget",
                Aim(
                    "Samples per second that became `other`, by metric and label, the 8 most frequent. Aim "
                    "for none: raise the budget, or drop the label.",
                    levels.ANY,
                    ("LabelOverflow", "SeriesOverflow"),
                ),
                {
                    "{{metric}} {{label}}": or_none(
                        top(8, sum_recorded(_OVERFLOW, "metric, label"), _OVERFLOW, "metric, label"), "metric"
                    )
                },
                "samples/s",
                span=THIRD,
            ),
        ),
        "Commit and ack": (
            Lines(
                "Commit duration",
                Aim(
                    "Time to make a batch durable. Aim for less than 100 ms; more means a slow disk.",
                    levels.COMMIT_SECONDS,
                ),
                {f"p{percent}": f"histogram_quantile({percent / 100}, {_COMMITS})" for percent in (50, 95, 99)},
                "s",
                span=THIRD,
            ),
            Lines(
                "Batches, by trigger",
                Aim("Per second. Aim for `interval`; only `size` means a fleet at its limit."),
                {"{{trigger}}": rate("busmon_batches_total", "trigger")},
                "batches/s",
                span=THIRD,
                stacked=True,
            ),
            Lines(
                "Acknowledged and redelivered",
                Aim("Messages per second, by RabbitMQ. Aim for none redelivered: those belonged to lost workers."),
                {"acknowledged": _BROKER.format("acknowledged"), "redelivered": _BROKER.format("redelivered")},
                "messages/s",
                span=THIRD,
            ),
        ),
        "Expose and scrape": (
            Lines(
                "Scrape duration",
                Aim("Time to write all series. Aim for less than a second.", levels.SCRAPE_SECONDS, ("ScrapeSlow",)),
                {f"p{percent}": f"histogram_quantile({percent / 100}, {_SCRAPES})" for percent in (50, 95)},
                "s",
                span=THIRD,
            ),
            Listing(
                "Series by family",
                Aim("The 15 largest. Aim for stable lines: a family that only grows has a label without bound."),
                f"topk(15, {largest('busmon_series', 'family')})",
                {"family": "Family", "Value": "Series"},
                "locale",
                span=THIRD,
            ),
            Lines(
                "Samples per scrape, by job",
                Aim("Aim for a stable line, and for 0 files skipped.", runbooks=("ScrapeFilesSkipped",)),
                {
                    "{{job}}": "sum by (job) (scrape_samples_scraped)",
                    "files skipped": f"sum (busmon_scrape_files_skipped{{{FLEET}}}) or vector(0)",
                },
                "short",
                span=THIRD,
                dashed=("files skipped",),
            ),
        ),
        "Alert": (
            Lines(
                "Notifications, sent and failed",
                Aim("By kind of receiver, per 5 minutes. Aim for none failed.", runbooks=("AlertsNotDelivered",)),
                {
                    "sent": "sum (increase(alertmanager_notifications_total[5m]))",
                    "failed": "sum (increase(alertmanager_notifications_failed_total[5m]))",
                    "dropped by Prometheus": "sum (increase(prometheus_notifications_dropped_total[5m]))",
                },
                "short",
                span=THIRD,
            ),
            Lines(
                "Rule evaluation, share of its interval",
                Aim(
                    "The slowest group. Aim for less than 50 %: at 100 % evaluations are missed.",
                    levels.RULES,
                    ("RuleEvaluationFails",),
                ),
                {
                    "slowest group": "max(prometheus_rule_group_last_duration_seconds "
                    "/ prometheus_rule_group_interval_seconds)"
                },
                "percentunit",
                span=THIRD,
            ),
            Lines(
                "Prometheus: series in memory",
                Aim("Aim for a stable line: each series takes 3 to 4 KiB of memory."),
                {"{{instance}}": "max by (instance) (prometheus_tsdb_head_series)"},
                "short",
                span=THIRD,
            ),
        ),
        "Processes": (
            Lines(
                "Memory",
                Aim("Resident, by job. Aim for stable lines: a line that only rises is a leak."),
                {"{{job}}": "sum by (job) (process_resident_memory_bytes)"},
                "bytes",
                span=THIRD,
            ),
            Lines(
                "CPU",
                Aim("Cores in use, by job. Aim for lines that follow the envelopes."),
                {"{{job}}": "sum by (job) (rate(process_cpu_seconds_total[$__rate_interval]))"},
                "cores",
                span=THIRD,
            ),
            Lines(
                "Worker restarts and reconnects",
                Aim("Per 5 minutes. Aim for none.", levels.ANY, ("WorkerCrashLoops", "WorkerDown")),
                {
                    "{{worker}} replaced": increase("busmon_worker_restarts_total", "worker", FLEET, "5m"),
                    "worker {{worker}}: {{cause}}": increase("busmon_reconnects_total", "worker, cause", FLEET, "5m"),
                },
                "short",
                span=THIRD,
            ),
        ),
    },
)
