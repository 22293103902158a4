"""The built-in catalogue has the strategy's metrics, literally, and those that its dashboards and alerts need."""

import pytest

from busmon.catalogue import Catalogue

FAMILIES = Catalogue.load().families

LABELS: dict[str, dict[str, list[str]]] = {
    "counter": {
        "tasks_processed_total": ["agent", "status"],
        "errors_total": ["type", "severity"],
        "messages_published_total": ["exchange", "routing_key"],
        "messages_consumed_total": ["queue", "consumer"],
        "votes_cast_total": ["type"],
        "achievements_unlocked_total": ["category"],
        "points_earned_total": ["source"],
    },
    "gauge": {
        "active_agents": ["type"],
        "queue_size": ["queue"],
        "memory_usage_bytes": ["process"],
        "cpu_usage_percent": ["core"],
        "connection_pool_size": ["type"],
        "connection_pool_active": ["type"],
        "user_online_count": [],
        "active_tasks_count": [],
        "pending_votes_count": [],
    },
    "histogram": {
        "task_duration_seconds": ["agent"],
        "message_latency_seconds": ["queue"],
        "api_request_duration_seconds": ["endpoint", "method"],
        "database_query_duration_seconds": ["operation"],
        "message_size_bytes": ["type"],
        "batch_size": ["operation"],
    },
    "summary": {"request_size_bytes": [], "response_size_bytes": []},
}

BUCKETS = {
    "task_duration_seconds": [0.1, 0.5, 1, 2, 5, 10],
    "message_latency_seconds": [0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
    "message_size_bytes": [100, 1000, 10000, 100000],
    "batch_size": [1, 10, 50, 100, 500],
}

VALUES: dict[str, dict[str, tuple[str, ...]]] = {
    "tasks_processed_total": {"status": ("success", "failure")},
    "votes_cast_total": {"type": ("upvote", "downvote")},
    "connection_pool_size": {"type": ("rabbitmq", "postgres", "redis")},
}

PANELS = {
    "CPU & Memory Usage": ["cpu_usage_percent", "memory_usage_bytes"],
    "Network I/O": ["network_receive_bytes_total", "network_transmit_bytes_total"],
    "Disk Usage": ["disk_usage_bytes", "disk_capacity_bytes", "disk_read_bytes_total", "disk_written_bytes_total"],
    "Connection Pools": ["connection_pool_size", "connection_pool_active"],
    "Service Status": ["service_up"],
    "Active Agents": ["active_agents"],
    "Task Processing Rate, Success/Failure Ratio, Task Throughput": ["tasks_processed_total"],
    "Agent Lifecycle": [
        "agent_starts_total",
        "agent_stops_total",
        "agent_restarts_total",
        "agent_heartbeats_total",
        "busmon_last_envelope_timestamp_seconds",
    ],
    "Resource Usage per Agent": [
        "agent_cpu_seconds_total",
        "agent_memory_usage_bytes",
        "agent_memory_limit_bytes",
        "agent_network_receive_bytes_total",
        "agent_network_transmit_bytes_total",
    ],
    "Task Queue Depth": ["task_queue_depth"],
    "Processing Time Distribution": ["task_duration_seconds"],
    "Error Rate": ["task_failures_total"],
    "Task Types Distribution": ["tasks_submitted_total"],
    "Error Timeline, Error Categories": ["errors_total"],
    "Error Heatmap, Top Errors": ["service_errors_total"],
    "Error Recovery Time": ["error_recovery_duration_seconds"],
    "Voting Activity": ["votes_cast_total", "pending_votes_count"],
    "Achievement Progress": ["achievements_unlocked_total", "achievement_progress_ratio"],
    "Points Economy": ["points_earned_total", "points_spent_total", "user_ranking_points"],
    "User Engagement": ["user_online_count", "session_duration_seconds"],
    "Content Metrics": ["content_popularity_score"],
}

ALERTS = {
    "High Error Rate": ["api_requests_total", "tasks_processed_total"],
    "Service Down": ["service_up"],
    "Database Connection Pool Exhausted": ["connection_pool_active", "connection_pool_size"],
    "Memory Leak, High Memory Usage": ["memory_usage_bytes", "memory_limit_bytes"],
    "Queue Overflow, Queue Backup": ["queue_size"],
    "High CPU Usage": ["cpu_usage_percent"],
    "Slow Response Time": ["api_request_duration_seconds"],
    "Agent Restart": ["agent_restarts_total"],
    "Configuration Change": ["config_reloads_total"],
    "Batch Job Started/Completed": [
        "batch_jobs_started_total",
        "batch_jobs_completed_total",
        "batch_jobs_failed_total",
        "batch_job_last_success_timestamp_seconds",
    ],
    "Certificate Expiry Warning": ["certificate_expiry_timestamp_seconds"],
    "Circuit Breaker Integration": ["circuit_breaker_state"],
}


@pytest.mark.parametrize("type_", LABELS)
def test_every_metric_of_the_strategy_is_there_with_its_labels(type_: str) -> None:
    built_in = {name: FAMILIES[name] for name in LABELS[type_]}
    assert {name: list(family.labelnames) for name, family in built_in.items()} == LABELS[type_]
    assert {family.type for family in built_in.values()} == {type_}


@pytest.mark.parametrize("name", BUCKETS)
def test_buckets_are_the_strategys(name: str) -> None:
    assert list(FAMILIES[name].buckets) == BUCKETS[name]


@pytest.mark.parametrize("name", VALUES)
def test_enumerated_values_are_the_strategys(name: str) -> None:
    assert VALUES[name].items() <= FAMILIES[name].values.items()


@pytest.mark.parametrize("name", LABELS["summary"])
def test_quantiles_are_the_strategys(name: str) -> None:
    assert FAMILIES[name].quantiles == (0.5, 0.9, 0.95, 0.99)


def test_the_help_that_the_strategy_shows_is_its_own() -> None:
    assert FAMILIES["tasks_processed_total"].help == "Total number of tasks processed"


@pytest.mark.parametrize(("_title", "names"), [*PANELS.items(), *ALERTS.items()])
def test_every_panel_and_alert_of_the_strategy_has_its_families(_title: str, names: list[str]) -> None:
    assert set(names) <= FAMILIES.keys()


@pytest.mark.parametrize(
    ("name", "threshold"),
    [("api_request_duration_seconds", 2), ("task_duration_seconds", 2)],
)
def test_the_alerts_threshold_is_a_bound_so_that_no_quantile_is_guessed(name: str, threshold: float) -> None:
    assert threshold in FAMILIES[name].buckets


@pytest.mark.parametrize("name", ["user_ranking_points", "content_popularity_score"])
def test_rankings_are_bounded(name: str) -> None:
    assert FAMILIES[name].values["rank"] == tuple(str(rank) for rank in range(1, 11))
