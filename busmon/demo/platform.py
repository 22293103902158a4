"""The simulated agent platform: agents that do tasks, and report all that real ones would.

An agent's life is `start`, steps, `stop`; a step is one task with everything around it. Some families are touched at
every step, the others every so many steps, beginning with the first. What is counted depends on the seed, the weather
and the number of steps alone, never on the clock. An agent belongs to one thread.
"""

import time
from random import Random
from typing import TypeVar

from busmon.demo.report import Report
from busmon.demo.weather import FAIR, Weather

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
_POOL_SIZE = 20
_LEAKING = "analyzer"
"""Whose process grows in the incident `memory-leak`."""

_BATCH_JOB_SECONDS = 300.0
_MISHAP_SECONDS = 1800.0


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
        weather: what happens to all of them.
    """

    def __init__(self, report: Report, role: str, number: int, seed: int, weather: Weather = FAIR) -> None:
        self._report = report
        self._role = role
        self._number = number
        self._host = f"host-{number % 3 + 1}"
        self._weather, self._now = weather, weather.at(0)
        self._seconds = -1.0
        self._steps = 0
        self._leaked_before = 0.0
        self._random = random = Random(f"{seed}/{number}")  # noqa: S311 - not for secrets: a seed is to repeat it
        self._task_seconds = random.uniform(0.2, 1.5)
        self._queues = {queue: Walk(random, 0, 900) for queue in ("tasks", "results", "notifications")}
        self._waiting = {priority: Walk(random, 0, 120) for priority in _PRIORITIES}
        self._cores = {str(core): Walk(random, 5, 90) for core in range(4)}
        self._pools = {service: Walk(random, 0, 18) for service in _SERVICES}
        self._memory = Walk(random, 120 * _MEGABYTE, 260 * _MEGABYTE)
        self._disk = Walk(random, 20_000 * _MEGABYTE, 60_000 * _MEGABYTE)
        self._online = Walk(random, 20, 400)
        self._open_votes = Walk(random, 0, 40)
        # Every agent tells of the same users, so all walk alike.
        shared = Random(f"{seed}/progress")  # noqa: S311 - as above
        self._progress = {category: Walk(shared, 0.1, 0.9) for category in ("speed", "quality", "streak")}

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
            show("connection_pool_size", service, value=_POOL_SIZE)
        self._health()

    def step(self, seconds: float) -> None:
        """Do one task, if the hour has one for it.

        Args:
            seconds: since the start.
        """
        step, self._steps = self._steps, self._steps + 1
        before, self._seconds = self._seconds, seconds
        self._now = self._weather.at(seconds)
        if self._weather.deploys(before, seconds, self._number):
            self._deploy()
        if step == 0 or self._chance(self._now.load):
            self._work(first=step == 0)
        if step % 5 == 0:
            self._spend()
        if step % 10 == 0:
            self._vitals()
            self._traffic()
        if step % 20 == 0:
            self._ranking()
        if before // _BATCH_JOB_SECONDS < seconds // _BATCH_JOB_SECONDS:
            self._batch_job(fails=(step + self._number) % len(ROLES) == 0)
        if before // _MISHAP_SECONDS < seconds // _MISHAP_SECONDS:
            self._mishap()

    def stop(self) -> None:
        """Report an orderly end."""
        self._report.count("agent_stops_total", self._role)
        self._report.show("active_agents", self._role, value=0)

    def _deploy(self) -> None:
        """Take leave, and begin anew with what a young process holds."""
        self.stop()
        self._leaked_before = self._now.leaked_bytes
        self.start()

    def _work(self, *, first: bool) -> None:
        # The first task fails, so that every family is there from the start.
        self._task(fails=first or self._chance(self._now.failing))
        self._messages()
        self._api()
        self._database()
        self._business()

    def _health(self) -> None:
        show, is_up = self._report.show, self._now.database_up
        for service in _SERVICES:
            show("service_up", service, value=float(is_up or service != "postgres"))
        for state in ("closed", "half_open", "open"):
            show("circuit_breaker_state", "postgres", state, value=float(state == ("closed" if is_up else "open")))

    def _task(self, *, fails: bool) -> None:
        count, role = self._report.count, self._role
        type_ = self._pick("summarize", "classify", "translate", "index")
        count("tasks_submitted_total", type_, self._random.choices(_PRIORITIES, (20, 60, 15, 5))[0])
        count("tasks_processed_total", role, "failure" if fails else "success")
        count("agent_cpu_seconds_total", role, by=self._about(0.02, 0.5))
        self._report.observe(
            "task_duration_seconds", role, value=self._about(self._task_seconds * self._now.slowness**0.5, 0.7)
        )
        self._report.show("active_tasks_count", value=self._random.randint(0, 4))
        if fails:
            category = self._pick(*_CATEGORIES)
            count("task_failures_total", role, category)
            count("errors_total", category, self._pick("warning", "error", "error", "critical"))
            count("service_errors_total", role, self._pick("upstream timed out", "invalid payload", "out of memory"))
            self._report.observe("error_recovery_duration_seconds", role, value=self._about(5, 1.0))

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
        report.observe(
            "api_request_duration_seconds", endpoint, method, value=self._about(0.06 * self._now.slowness, 0.9)
        )
        report.observe("request_size_bytes", value=round(self._about(700, 1.0)))
        report.observe("response_size_bytes", value=round(self._about(3000, 1.3)))

    def _database(self) -> None:
        for _ in range(self._random.randint(1, 3)):
            operation = self._pick("select", "select", "insert", "update", "delete")
            self._report.observe(
                "database_query_duration_seconds", operation, value=self._about(0.004 * self._now.slowness, 1.0)
            )

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
        self._report.count("achievements_unlocked_total", self._pick(*self._progress))
        for category, progress in self._progress.items():
            show("achievement_progress_ratio", category, value=progress.next())
        for rank in range(1, 11):
            show("user_ranking_points", str(rank), value=20_000 // rank + self._random.randint(0, 100))
            show("content_popularity_score", "task", str(rank), value=900 // rank + self._random.random())
            show("content_popularity_score", "topic", str(rank), value=600 // rank + self._random.random())

    def _vitals(self) -> None:
        show, role = self._report.show, self._role
        self._report.count("agent_heartbeats_total", role)
        self._health()
        leaked = self._now.leaked_bytes - self._leaked_before if role == _LEAKING else 0
        memory = round(self._memory.next() + max(0, leaked))
        show("agent_memory_usage_bytes", role, value=memory)
        show("memory_usage_bytes", role, value=memory)
        show("disk_usage_bytes", self._host, "/", value=round(self._disk.next()))
        for queue, size in self._queues.items():
            show("queue_size", queue, value=round(size.next() + self._now.backlog * (queue == "tasks")))
        for priority, depth in self._waiting.items():
            show("task_queue_depth", priority, value=round(depth.next()))
        for core, percent in self._cores.items():
            show("cpu_usage_percent", core, value=percent.next())
        for service, active in self._pools.items():
            least = self._now.pool_share * _POOL_SIZE * (service == "postgres")
            show("connection_pool_active", service, value=max(round(active.next()), round(least)))

    def _traffic(self) -> None:
        count, role, host = self._report.count, self._role, self._host
        for direction in ("receive", "transmit"):
            size = round(self._about(40_000, 0.8))
            count(f"agent_network_{direction}_bytes_total", role, by=size)
            count(f"network_{direction}_bytes_total", host, "eth0", by=size)
        for direction, most in (("read", 64), ("written", 256)):
            size = 4096 * self._random.randint(1, most)
            count(f"agent_disk_{direction}_bytes_total", role, by=size)
            count(f"disk_{direction}_bytes_total", host, "sda", by=size)

    def _batch_job(self, *, fails: bool) -> None:
        count, job = self._report.count, self._pick("reindex", "digest", "cleanup")
        count("batch_jobs_started_total", job)
        if fails:
            count("batch_jobs_failed_total", job)
        else:
            count("batch_jobs_completed_total", job)
            self._report.show("batch_job_last_success_timestamp_seconds", job, value=time.time())

    def _mishap(self) -> None:
        """What happens now and then: a crash that is survived, and a reload."""
        self._report.count("agent_restarts_total", self._role)
        self._report.count("config_reloads_total", self._role, "success" if self._chance(0.9) else "failure")

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _pick(self, *choices: T) -> T:
        return self._random.choice(choices)

    def _about(self, median: float, spread: float) -> float:
        """A lognormal value, as times and sizes are."""
        return round(median * self._random.lognormvariate(0, spread) * _EXACT) / _EXACT
