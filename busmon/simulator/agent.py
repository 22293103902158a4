"""The simulated agents: each does the tasks of its role, and reports all that a real one would.

An agent's life is `start`, steps, `stop`; a step is one task with everything around it, or a pause. Some families are
touched at every task, the others every so many steps, beginning with the first. What is counted depends on the seed,
the weather and the number of steps alone, never on the clock. An agent belongs to one thread.
"""

import math

from busmon.simulator.chance import Chance, Level
from busmon.simulator.platform import Platform
from busmon.simulator.report import Report
from busmon.simulator.roles import ROLES, Role
from busmon.simulator.weather import FAIR, Weather

_MEGABYTE = 2**20
_PRIORITIES = {"normal": 61, "low": 22, "high": 14, "critical": 3}
_SEVERITIES = {"error": 60, "warning": 35, "critical": 5}
_ENDPOINTS = {"/v1/tasks POST": 44, "/v1/tasks GET": 39, "/v1/votes POST": 17}
_STATUSES = {"2xx": 9630, "3xx": 120, "4xx": 230, "5xx": 20}
_QUERIES = {"select": 71, "insert": 16, "update": 11, "delete": 2}
_MESSAGES = {"task": 63, "result": 37}
_VOTES = {"upvote": 79, "downvote": 21}
_POINTS = {"task": 58, "vote": 30, "streak": 12}
_SPENDING = {"boost": 70, "badge": 30}
_ACHIEVEMENTS = {"speed": 50, "quality": 35, "streak": 15}
_ERRORS = {
    "timeout": "upstream timed out",
    "validation": "invalid payload",
    "dependency": "connection refused",
    "resource": "out of memory",
    "internal": "unexpected state",
}
_SERVICES = ("rabbitmq", "postgres", "redis")
_POOL_SIZE = 20
_POOL_USUAL = {"rabbitmq": 3.0, "postgres": 8.0, "redis": 4.0}
_LEAKING = "analyzer"
"""The role whose process grows in the incident `memory-leak`."""

_MISHAP_SECONDS = 1800.0


def role_of(number: int) -> Role:
    """Return the role of the agent with this number."""
    return ROLES[number % len(ROLES)]


class Agent:
    """One simulated agent.

    Args:
        report: reports for it.
        number: distinguishes it from all others of the platform, and decides its role.
        seed: decides, with the number, its history.
        weather: the history of the whole platform.
    """

    def __init__(self, report: Report, number: int, seed: int, weather: Weather = FAIR) -> None:
        self._report = report
        self._role = role = role_of(number)
        self._number = number
        self._host = f"host-{number % 3 + 1}"
        self._weather, self._now = weather, weather.at(0)
        self._seconds = -1.0
        self._steps = 0
        self._leaked_before = 0.0
        self._chance = chance = Chance(seed, str(number))
        self._phase = chance.between(0, 2 * math.pi)
        self._pools = {service: Level(chance, usual, 17, (0.01, 0.8)) for service, usual in _POOL_USUAL.items()}
        self._memory = Level(chance, role.memory_megabytes * _MEGABYTE, 380 * _MEGABYTE)
        self._platform = Platform(report, seed) if number == 0 else None

    def start(self) -> None:
        """Report a start, and what seldom changes."""
        show, role = self._report.show, self._role.name
        self._report.count("agent_starts_total", role)
        show("active_agents", role, value=1)
        show("agent_memory_limit_bytes", role, value=512 * _MEGABYTE)
        show("memory_limit_bytes", role, value=512 * _MEGABYTE)
        for service in _SERVICES:
            show("connection_pool_size", service, value=_POOL_SIZE)
        self._health()
        if self._platform:
            self._platform.start()

    def step(self, seconds: float) -> None:
        """Run one task, if there is one at that moment.

        Args:
            seconds: since the start.
        """
        step, self._steps = self._steps, self._steps + 1
        before, self._seconds = self._seconds, seconds
        self._now = self._weather.at(seconds)
        if self._weather.deploys(before, seconds, self._number):
            self._deploy()
        load = self._now.load * self._role.load(seconds, self._phase)
        if step == 0 or self._chance.happens(load):
            self._work(first=step == 0, load=load)
        if step % 5 == 0:
            self._spend()
        if step % 10 == 0:
            self._vitals(load)
            self._traffic(load)
        if before // _MISHAP_SECONDS < seconds // _MISHAP_SECONDS:
            self._mishap()
        if self._platform:
            self._platform.step(step, self._now, before, seconds)

    def stop(self) -> None:
        """Report an orderly end."""
        self._report.count("agent_stops_total", self._role.name)
        self._report.show("active_agents", self._role.name, value=0)

    def _deploy(self) -> None:
        """Take leave, and start again with the memory of a young process."""
        self.stop()
        self._leaked_before = self._now.leaked_bytes
        self.start()

    def _work(self, *, first: bool, load: float) -> None:
        # The first task fails, so that every family is there from the start.
        failing = self._now.failing * self._role.failing
        self._task(fails=first or self._chance.happens(failing), load=load)
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

    def _task(self, *, fails: bool, load: float) -> None:
        count, role, chance = self._report.count, self._role, self._chance
        count("tasks_submitted_total", chance.pick(role.tasks), chance.pick(_PRIORITIES))
        count("tasks_processed_total", role.name, "failure" if fails else "success")
        count("agent_cpu_seconds_total", role.name, by=chance.about(role.cpu_seconds, 0.5))
        usual = role.task_seconds * (0.75 + 0.5 * load)
        self._report.observe(
            "task_duration_seconds", role.name, value=chance.about(usual * self._now.slowness**0.5, 0.45)
        )
        self._report.show("active_tasks_count", value=chance.whole(0, 1 + round(3 * load)))
        if fails:
            category = chance.pick(role.failures)
            count("task_failures_total", role.name, category)
            count("errors_total", category, chance.pick(_SEVERITIES))
            count("service_errors_total", role.name, _ERRORS[category])
            self._report.observe("error_recovery_duration_seconds", role.name, value=chance.about(5, 1.0))

    def _messages(self) -> None:
        report, chance = self._report, self._chance
        report.count("messages_published_total", "agents", self._role.routing_key)
        report.count("message_confirmations_total", "agents", "confirmed")
        report.count("messages_consumed_total", self._role.queue, self._role.name)
        report.observe("message_latency_seconds", self._role.queue, value=chance.about(0.02, 1.0))
        report.observe("message_size_bytes", chance.pick(_MESSAGES), value=round(chance.about(1100, 1.2)))
        report.observe("batch_size", chance.pick({"store": 3, "embed": 1}), value=round(chance.about(14, 0.9)) + 1)

    def _api(self) -> None:
        report, chance = self._report, self._chance
        endpoint, method = chance.pick(_ENDPOINTS).split()
        report.count("api_requests_total", endpoint, method, chance.pick(_STATUSES))
        usual = (0.02 if method == "GET" else 0.07) * self._now.slowness
        report.observe("api_request_duration_seconds", endpoint, method, value=chance.about(usual, 0.9))
        report.observe("request_size_bytes", value=round(chance.about(700, 1.0)))
        report.observe("response_size_bytes", value=round(chance.about(3000, 1.3)))

    def _database(self) -> None:
        for _ in range(self._chance.whole(1, 3)):
            operation = self._chance.pick(_QUERIES)
            usual = (0.003 if operation == "select" else 0.008) * self._now.slowness
            self._report.observe("database_query_duration_seconds", operation, value=self._chance.about(usual, 1.0))

    def _business(self) -> None:
        count, chance = self._report.count, self._chance
        count("votes_cast_total", chance.pick(_VOTES))
        count("points_earned_total", chance.pick(_POINTS), by=chance.whole(1, 25))
        if self._steps == 1 or chance.happens(0.05):
            count("achievements_unlocked_total", chance.pick(_ACHIEVEMENTS))

    def _spend(self) -> None:
        self._report.count("points_spent_total", self._chance.pick(_SPENDING), by=self._chance.whole(5, 50))
        self._report.observe("session_duration_seconds", value=self._chance.about(900, 1.0))

    def _vitals(self, load: float) -> None:
        show, role = self._report.show, self._role.name
        self._report.count("agent_heartbeats_total", role)
        self._health()
        leaked = self._now.leaked_bytes - self._leaked_before if role == _LEAKING else 0
        memory = round(self._memory.next(0.85 + 0.2 * load) + max(0, leaked))
        show("agent_memory_usage_bytes", role, value=memory)
        show("memory_usage_bytes", role, value=memory)
        for service, active in self._pools.items():
            least = self._now.pool_share * _POOL_SIZE * (service == "postgres")
            show("connection_pool_active", service, value=max(round(active.next(0.4 + load)), round(least)))

    def _traffic(self, load: float) -> None:
        count, role, host, chance = self._report.count, self._role.name, self._host, self._chance
        for direction, median in (("receive", 60_000), ("transmit", 35_000)):
            size = round(chance.about(median * (0.2 + load), 0.6))
            count(f"agent_network_{direction}_bytes_total", role, by=size)
            count(f"network_{direction}_bytes_total", host, "eth0", by=size)
        for direction, median in (("read", 20), ("written", 90)):
            size = 4096 * round(chance.about(median * (0.3 + load), 0.8))
            count(f"agent_disk_{direction}_bytes_total", role, by=size)
            count(f"disk_{direction}_bytes_total", host, "sda", by=size)

    def _mishap(self) -> None:
        """Report what happens now and then: a crash that is survived, and a reload."""
        self._report.count("agent_restarts_total", self._role.name)
        self._report.count("config_reloads_total", self._role.name, "success")
