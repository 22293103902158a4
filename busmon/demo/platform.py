"""The simulated agent platform: agents that do tasks, and report all that real ones would.

An agent's life is `start`, steps, `stop`; a step is one task with everything around it. Some families are touched at
every step, the others every so many steps, beginning with the first. What is counted depends on the seed and the number
of steps alone, never on the clock. An agent belongs to one thread.
"""

import time
from random import Random
from typing import TypeVar

from busmon.demo.report import Report

T = TypeVar("T")

ROLES = ("coordinator", "planner", "analyzer", "writer", "reviewer", "gateway")
"""What agents there are; further ones are replicas of these."""

_EXACT = 2**16
"""Multiples of 2^-16 add up exactly in any order: one seed gives the same sums, however they are cut into envelopes."""

_MEGABYTE = 2**20
_DAY_SECONDS = 86_400
_PRIORITIES = ("low", "normal", "high", "critical")
_CATEGORIES = ("timeout", "validation", "dependency", "resource", "internal")
_SERVICES = ("rabbitmq", "postgres", "redis")


class Walk:
    """A value that wanders within bounds, as a queue's length does."""

    def __init__(self, random: Random, low: float, high: float) -> None:
        self._random = random
        self._low, self._high = low, high
        self._value = random.uniform(low, (low + high) / 2)

    def next(self) -> float:
        """Where it is after one more step."""
        step = (self._high - self._low) * self._random.gauss(0, 0.05)
        self._value = min(self._high, max(self._low, self._value + step))
        return self._value


class Agent:
    """One simulated agent.

    Args:
        report: what it reports by.
        role: what it is: the `agent` label of what it publishes.
        number: tells it from all others of the platform.
        seed: decides, with the number, what happens to it.
    """

    def __init__(self, report: Report, role: str, number: int, seed: int) -> None:
        self._report = report
        self._role = role
        self._number = number
        self._host = f"host-{number % 3 + 1}"
        self._steps = 0
        self._random = random = Random(f"{seed}/{number}")  # noqa: S311 - not for secrets: a seed is to repeat it
        self._task_seconds = random.uniform(0.2, 1.5)
        self._queues = {queue: Walk(random, 0, 900) for queue in ("tasks", "results", "notifications")}
        self._waiting = {priority: Walk(random, 0, 120) for priority in _PRIORITIES}
        self._cores = {str(core): Walk(random, 5, 90) for core in range(4)}
        self._pools = {service: Walk(random, 0, 18) for service in _SERVICES}
        self._memory = Walk(random, 80 * _MEGABYTE, 400 * _MEGABYTE)
        self._disk = Walk(random, 20_000 * _MEGABYTE, 60_000 * _MEGABYTE)
        self._online = Walk(random, 20, 400)
        self._open_votes = Walk(random, 0, 40)

    def start(self) -> None:
        """Report a start, and what seldom changes."""
        show, role = self._report.show, self._role
        self._report.count("agent_starts_total", role)
        show("active_agents", role, value=1)
        show("agent_memory_limit_bytes", role, value=512 * _MEGABYTE)
        show("memory_limit_bytes", role, value=512 * _MEGABYTE)
        show("disk_capacity_bytes", self._host, "/", value=100_000 * _MEGABYTE)
        show("certificate_expiry_timestamp_seconds", "api", value=time.time() + 60 * _DAY_SECONDS)
        for service in _SERVICES:
            show("service_up", service, value=1)
            show("connection_pool_size", service, value=20)
        for state in ("closed", "half_open", "open"):
            show("circuit_breaker_state", "postgres", state, value=float(state == "closed"))

    def step(self) -> None:
        """Do one task."""
        step, self._steps = self._steps, self._steps + 1
        self._task(fails=step % 40 == 0 or self._chance(0.005))
        self._messages()
        self._api()
        self._database()
        self._business()
        if step % 5 == 0:
            self._spend()
        if step % 10 == 0:
            self._vitals()
            self._traffic()
        if step % 20 == 0:
            self._ranking()
        if step % 50 == 0:
            self._batch_job(fails=(step // 50 + self._number) % len(ROLES) == 0)
        if step % 200 == 0:
            self._incident()

    def stop(self) -> None:
        """Report an orderly end."""
        self._report.count("agent_stops_total", self._role)
        self._report.show("active_agents", self._role, value=0)

    def _task(self, *, fails: bool) -> None:
        count, role = self._report.count, self._role
        type_ = self._pick("summarize", "classify", "translate", "index")
        count("tasks_submitted_total", type_, self._random.choices(_PRIORITIES, (20, 60, 15, 5))[0])
        count("tasks_processed_total", role, "failure" if fails else "success")
        count("agent_cpu_seconds_total", role, by=self._about(0.02, 0.5))
        self._report.observe("task_duration_seconds", role, value=self._about(self._task_seconds, 0.7))
        self._report.show("active_tasks_count", value=self._random.randint(0, 4))
        if fails:
            category = self._pick(*_CATEGORIES)
            count("task_failures_total", role, category)
            count("errors_total", category, self._pick("warning", "error", "error", "critical"))
            count("service_errors_total", role, self._pick("upstream timed out", "invalid payload", "out of memory"))

    def _messages(self) -> None:
        report, queue = self._report, self._pick(*self._queues)
        report.count("messages_published_total", "agents", f"task.{self._pick('plan', 'analyze', 'write', 'review')}")
        report.count("messages_consumed_total", queue, self._role)
        report.observe("message_latency_seconds", queue, value=self._about(0.02, 1.0))
        report.observe("message_size_bytes", self._pick("task", "result"), value=round(self._about(1100, 1.2)))
        report.observe("batch_size", self._pick("embed", "store"), value=self._random.randint(1, 120))

    def _api(self) -> None:
        report = self._report
        endpoint, method = self._pick(("/v1/tasks", "POST"), ("/v1/tasks", "GET"), ("/v1/votes", "POST"))
        status = self._random.choices(("2xx", "3xx", "4xx", "5xx"), (960, 10, 25, 5))[0]
        report.count("api_requests_total", endpoint, method, status)
        report.observe("api_request_duration_seconds", endpoint, method, value=self._about(0.06, 0.9))
        report.observe("request_size_bytes", value=round(self._about(700, 1.0)))
        report.observe("response_size_bytes", value=round(self._about(3000, 1.3)))

    def _database(self) -> None:
        for _ in range(self._random.randint(1, 3)):
            operation = self._pick("select", "select", "insert", "update", "delete")
            self._report.observe("database_query_duration_seconds", operation, value=self._about(0.004, 1.0))

    def _business(self) -> None:
        count = self._report.count
        count("votes_cast_total", "upvote" if self._chance(0.8) else "downvote")
        count("points_earned_total", self._pick("task", "vote", "streak"), by=self._random.randint(1, 25))

    def _spend(self) -> None:
        self._report.count("points_spent_total", self._pick("boost", "badge"), by=self._random.randint(5, 50))
        self._report.observe("session_duration_seconds", value=self._about(900, 1.0))
        self._report.show("user_online_count", value=round(self._online.next()))
        self._report.show("pending_votes_count", value=round(self._open_votes.next()))

    def _ranking(self) -> None:
        show = self._report.show
        category = self._pick("speed", "quality", "streak")
        self._report.count("achievements_unlocked_total", category)
        show("achievement_progress_ratio", category, value=self._random.random())
        for rank in range(1, 11):
            show("user_ranking_points", str(rank), value=20_000 // rank + self._random.randint(0, 100))
            show("content_popularity_score", "task", str(rank), value=900 // rank + self._random.random())
            show("content_popularity_score", "topic", str(rank), value=600 // rank + self._random.random())

    def _vitals(self) -> None:
        show, role = self._report.show, self._role
        self._report.count("agent_heartbeats_total", role)
        memory = round(self._memory.next())
        show("agent_memory_usage_bytes", role, value=memory)
        show("memory_usage_bytes", role, value=memory)
        show("disk_usage_bytes", self._host, "/", value=round(self._disk.next()))
        for queue, size in self._queues.items():
            show("queue_size", queue, value=round(size.next()))
        for priority, depth in self._waiting.items():
            show("task_queue_depth", priority, value=round(depth.next()))
        for core, percent in self._cores.items():
            show("cpu_usage_percent", core, value=percent.next())
        for service, active in self._pools.items():
            show("connection_pool_active", service, value=round(active.next()))

    def _traffic(self) -> None:
        count, role, host = self._report.count, self._role, self._host
        for direction in ("receive", "transmit"):
            size = round(self._about(40_000, 0.8))
            count(f"agent_network_{direction}_bytes_total", role, by=size)
            count(f"network_{direction}_bytes_total", host, "eth0", by=size)
        count("disk_read_bytes_total", host, "sda", by=4096 * self._random.randint(0, 64))
        count("disk_written_bytes_total", host, "sda", by=4096 * self._random.randint(1, 256))

    def _batch_job(self, *, fails: bool) -> None:
        count, job = self._report.count, self._pick("reindex", "digest", "cleanup")
        count("batch_jobs_started_total", job)
        if fails:
            count("batch_jobs_failed_total", job)
        else:
            count("batch_jobs_completed_total", job)
            self._report.show("batch_job_last_success_timestamp_seconds", job, value=time.time())

    def _incident(self) -> None:
        """What happens now and then: a crash that is survived, a reload, a dependency that was away."""
        self._report.count("agent_restarts_total", self._role)
        self._report.count("config_reloads_total", self._role, "success" if self._chance(0.9) else "failure")
        self._report.observe("error_recovery_duration_seconds", self._role, value=self._about(20, 1.2))

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _pick(self, *choices: T) -> T:
        return self._random.choice(choices)

    def _about(self, median: float, spread: float) -> float:
        """A lognormal value, as times and sizes are."""
        return round(median * self._random.lognormvariate(0, spread) * _EXACT) / _EXACT
