"""Faults that no incident of the simulator is: each a few series that leave their calm course, as data.

A course is a level, or a counter's growth a second. Its blip is the longest departure that must not be told: a
negative episode has those of all courses at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

DAY = 86_400


@dataclass(frozen=True, slots=True)
class Course:
    """One series.

    Attributes:
        series: its name and labels.
        calm: its value, or its growth a second, while all is well.
        fault: that during the fault.
        is_counter: whether the numbers are a growth.
        lasting: how long the fault shows in it, in seconds; 0 to the fault's end.
        blip: how long it may show without an alert, in seconds.
    """

    series: str
    calm: float
    fault: float
    is_counter: bool = False
    lasting: float = 0.0
    blip: float = 0.0


@dataclass(frozen=True, slots=True)
class Further:
    """A fault: its courses, the alerts that must tell of it, and those that may."""

    courses: tuple[Course, ...]
    must: frozenset[str]
    may: frozenset[str] = frozenset()


def _fault(*courses: Course, must: tuple[str, ...], may: tuple[str, ...] = ()) -> Further:
    return Further(courses, frozenset(must), frozenset(may))


def _goes_on(series: str) -> Course:
    """Count one case every 5 s during the fault; one case alone is a blip."""
    return Course(series, 0, 0.2, is_counter=True, blip=5)


def _once(series: str) -> Course:
    """Count one case at the fault's onset."""
    return Course(series, 0, 0.2, is_counter=True, lasting=5)


def _histogram(name: str, labels: str, slow_from: str, bounds: tuple[str, ...], blip: float) -> tuple[Course, ...]:
    """Observe nothing up to a bound during the fault, and all within the largest."""
    return tuple(
        Course(
            f'{name}_bucket{{{labels}le="{bound}"}}',
            10,
            10 * (index >= bounds.index(slow_from)),
            is_counter=True,
            blip=blip,
        )
        for index, bound in enumerate(bounds)
    )


FURTHER = {
    "process-full": _fault(
        Course('memory_usage_bytes{process="writer"}', 0.6e9, 1.45e9, blip=15),
        Course('memory_limit_bytes{process="writer"}', 1.5e9, 1.5e9),
        must=("HighMemoryUsage", "MemoryNearlyExhausted"),
    ),
    "breaker-open": _fault(
        Course('circuit_breaker_state{breaker="redis",state="open"}', 0, 1, blip=15), must=("DependencyBreakerOpen",)
    ),
    "broker-alarm": _fault(
        Course('rabbitmq_alarms_memory_used_watermark{job="rabbitmq"}', 0, 1, blip=10), must=("BrokerAlarm",)
    ),
    "cpu-busy": _fault(
        Course('node_cpu_seconds_total{job="node",cpu="0",mode="idle"}', 0.6, 0.1, is_counter=True, blip=180),
        must=("HighCpuUsage",),
    ),
    "disk-fills": _fault(
        Course('node_filesystem_avail_bytes{job="node",mountpoint="/",fstype="ext4",device="sda"}', 50, 10, blip=300),
        Course('node_filesystem_size_bytes{job="node",mountpoint="/",fstype="ext4",device="sda"}', 100, 100),
        must=("HostDiskFilling",),
    ),
    "not-ready": _fault(Course("busmon_ready", 1, 0, blip=40), must=("NotReady",)),
    "latency": _fault(
        *_histogram(
            "message_latency_seconds", 'queue="telemetry.fold.0",', "30.0", ("1.0", "10.0", "30.0", "+Inf"), 30
        ),
        must=("PipelineLatencyHigh",),
    ),
    "stalled": _fault(
        Course('busmon_envelopes_consumed_total{shard="0"}', 10, 0, is_counter=True, blip=40),
        Course('busmon_queue_depth{queue="telemetry.fold.0"}', 0, 500, blip=40),
        must=("PipelineStalled",),
    ),
    "shard-stalled": _fault(Course('busmon_shard_waiting_seconds{shard="1"}', 0, 60, blip=10), must=("ShardStalled",)),
    "crash-loop": _fault(
        Course('busmon_worker_restarts_total{worker="1"}', 0, 1 / 60, is_counter=True),
        must=("WorkerCrashLoops", "AgentRestarted"),
    ),
    "agent-restart": _fault(_once('agent_restarts_total{agent="b"}'), must=("AgentRestarted",)),
    "bodies-rejected": _fault(
        _goes_on('busmon_envelopes_rejected_total{reason="not_json"}'), must=("QuarantineGrows",)
    ),
    "quarantine-drops": _fault(_once("busmon_quarantine_dropped_total"), must=("QuarantineDropsBodies",)),
    "samples-rejected": _fault(
        _goes_on('busmon_samples_rejected_total{agent="b",reason="type"}'), must=("SamplesRejected",)
    ),
    "labels-overflow": _fault(
        _goes_on('busmon_label_overflow_total{agent="b",metric="m",label="user"}'), must=("LabelOverflow",)
    ),
    "series-overflow": _fault(_goes_on('busmon_series_overflow_total{agent="b",metric="m"}'), must=("SeriesOverflow",)),
    "families-full": _fault(
        Course('busmon_adopted_families{agent="b"}', 100, 900, blip=40),
        Course("busmon_adopted_families_limit", 1000, 1000),
        must=("AdoptedFamiliesNearlyFull",),
    ),
    "clock-ahead": _fault(_goes_on('busmon_clock_skew_total{agent="b"}'), must=("ClockSkew",)),
    "publisher-drops": _fault(
        Course('busmon_publisher_dropped_total{agent="b"}', 0, 20, is_counter=True), must=("PublisherDropsSamples",)
    ),
    "file-torn": _fault(
        Course('busmon_scrape_files_skipped{file="gauge_shard0.db",reason="torn"}', 0, 1, blip=15),
        must=("ScrapeFilesSkipped",),
    ),
    "scrape-slow": _fault(
        *_histogram("busmon_scrape_duration_seconds", "", "5.0", ("1.0", "2.5", "5.0", "+Inf"), 5), must=("ScrapeSlow",)
    ),
    "reloaded": _fault(_once('config_reloads_total{service="api",result="success"}'), must=("ConfigurationChanged",)),
    "reload-refused": _fault(
        _once('config_reloads_total{service="api",result="failure"}'),
        must=("ConfigurationReloadFailed",),
        may=("ConfigurationChanged",),
    ),
    "job-runs": _fault(
        _once('batch_jobs_started_total{job_name="digest"}'),
        _once('batch_jobs_completed_total{job_name="digest"}'),
        must=("BatchJobStarted", "BatchJobCompleted"),
    ),
    "job-fails": _fault(_once('batch_jobs_failed_total{job_name="digest"}'), must=("BatchJobFailed",)),
    "certificate-month": _fault(
        Course('certificate_expiry_timestamp_seconds{certificate="api"}', 40 * DAY, 20 * DAY, blip=200),
        must=("CertificateExpiresSoon",),
    ),
    "certificate-week": _fault(
        Course('certificate_expiry_timestamp_seconds{certificate="web"}', 40 * DAY, 5 * DAY, blip=200),
        must=("CertificateExpiresVerySoon", "CertificateExpiresSoon"),
    ),
    "not-delivered": _fault(
        Course(
            'alertmanager_notifications_failed_total{job="alertmanager",integration="slack"}', 0, 0.2, is_counter=True
        ),
        must=("AlertsNotDelivered",),
    ),
    "alertmanager-gone": _fault(
        Course('prometheus_notifications_alertmanagers_discovered{job="prometheus"}', 1, 0, blip=40),
        must=("AlertmanagerMissing",),
    ),
    "prometheus-refuses": _fault(
        Course('prometheus_config_last_reload_successful{job="prometheus"}', 1, 0, blip=240),
        must=("PrometheusConfigRejected",),
    ),
    "rule-fails": _fault(
        Course('prometheus_rule_evaluation_failures_total{job="prometheus",rule_group="g"}', 0, 0.2, is_counter=True),
        must=("RuleEvaluationFails",),
    ),
}

_NO_CELERY = "the replayed traffic has no Celery"
IN_RULE_TESTS_ONLY = {
    "CeleryNothingConsumed": _NO_CELERY,
    "CeleryQueueGrows": _NO_CELERY,
    "CeleryTasksFail": _NO_CELERY,
    "CeleryTasksSlow": _NO_CELERY,
    "CeleryWorkerGone": _NO_CELERY,
    "LogNearRetention": "it needs a replicated fleet, which the replayed series don't have",
    "ReplicaLags": "it needs a replicated fleet, which the replayed series don't have",
    "ServiceAbsent": "`absent` has no label that distinguishes episodes on one server",
    "ShardWithoutOwner": "it needs a replicated fleet, which the replayed series don't have",
    "TaskErrorBudgetShrinks": "its window of 3 days is longer than an episode",
    "UnresolvedCritical": "it reads ALERTS, which a replay of series doesn't have",
    "UnresolvedWarning": "it reads ALERTS, which a replay of series doesn't have",
    "Watchdog": "it always fires",
}
"""The alerts that the bulk measurement leaves out, and why."""


def play(kind: str, age: float, lasting: float) -> Iterator[tuple[Course, bool]]:
    """List the courses of an episode, and whether each shows the fault or its blip.

    Args:
        kind: the episode's; a fault of its own has its courses alone, every other kind has all.
        age: seconds since the onset.
        lasting: how long the fault lasts.
    """
    if kind in FURTHER:
        for course in FURTHER[kind].courses:
            yield course, 0 <= age < (course.lasting or lasting)
    else:
        for fault in FURTHER.values():
            for course in fault.courses:
                yield course, kind == "blips" and 0 <= age < course.blip
