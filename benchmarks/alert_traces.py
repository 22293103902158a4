"""Episodes for the alerts: what a platform's series look like through a fault, or through what only looks like one.

An episode is a function of its kind, strength and seed. Its faults are the simulator's (`busmon.simulator.weather`) and
those of processes; its negatives are what an operation meets daily. Times count from the episode's start.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from alert_courses import FURTHER, play

from busmon.publish.presence import HEARTBEAT_SECONDS
from busmon.simulator.weather import Conditions, Weather

STEP = 5
SECONDS = 2400
ONSET = (600.0, 700.0)
LASTING = 1200.0
TASKS_PER_SECOND = 20
REQUESTS_PER_SECOND = 6
QUIET = frozenset(
    {
        "quiet",
        "deploy",
        "reset",
        "missed",
        "dip",
        "error-spike",
        "burst",
        "cold-start",
        "clock",
        "low-traffic",
        "garbage",
        "blips",
    }
)
IDLE = frozenset({"quiet", "missed", "low-traffic"})
"""Where the agent says nothing but that it lives."""

ERROR_RATES = frozenset(
    {"TaskFailuresSpike", "HighErrorRate", "ElevatedErrorRate", "TaskErrorBudgetBurnsFast", "TaskErrorBudgetBurns"}
)
QUEUES = frozenset({"QueueFillsFast", "QueueOverflow", "QueueBackup"})
SLOW = frozenset({"ResponseTimesSpike", "SlowResponseTime"})

Values = dict[str, list[float | None]]


@dataclass(frozen=True, slots=True)
class Episode:
    """One trace, and what alerts must and may make of it.

    Attributes:
        kind: the fault, or the negative.
        shape: `step`, `ramp` or `flapping`.
        must: alerts that have to fire between onset and end.
        may: alerts that are right to fire then, being true of the same fault.
    """

    number: int
    kind: str
    seed: str
    strength: float
    shape: str
    onset: float
    must: frozenset[str]
    may: frozenset[str] = frozenset()

    @property
    def end(self) -> float:
        """Return the time when the fault is over."""
        return self.onset + LASTING


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault: the incident of the simulator that it is, its strengths, and what is to notice it."""

    incident: str
    strengths: tuple[float, float]
    must: frozenset[str]
    may: frozenset[str] = frozenset()


FAULTS = {
    "error-rate-high": Fault(
        "high-error-rate",
        (1.0, 4.0),
        frozenset({"TaskFailuresSpike", "HighErrorRate", "TaskErrorBudgetBurnsFast"}),
        ERROR_RATES,
    ),
    "error-rate-low": Fault("high-error-rate", (0.1, 0.25), frozenset({"HighErrorRate"}), ERROR_RATES),
    "error-rate-elevated": Fault("high-error-rate", (0.03, 0.033), frozenset({"ElevatedErrorRate"}), ERROR_RATES),
    "dependency-down": Fault(
        "service-down", (1.0, 1.0), frozenset({"DependencyDown"}), ERROR_RATES | {"DependencyBreakerOpen"}
    ),
    "queue-overflow": Fault("queue-overflow", (0.7, 4.0), frozenset({"QueueFillsFast", "QueueOverflow"}), QUEUES),
    "queue-backup": Fault("queue-overflow", (0.03, 0.06), frozenset({"QueueBackup"}), QUEUES),
    "memory-leak": Fault(
        "memory-leak", (0.5, 2.0), frozenset({"MemoryLeak"}), frozenset({"HighMemoryUsage", "MemoryNearlyExhausted"})
    ),
    "pool-exhausted": Fault("pool-exhausted", (1.0, 1.0), frozenset({"DatabaseConnectionPoolExhausted"}), SLOW),
    "slow-responses": Fault("slow-responses", (0.8, 2.0), SLOW, SLOW | {"DatabaseConnectionPoolExhausted"}),
    "target-down": Fault("", (1.0, 1.0), frozenset({"ServiceDown"})),
    "agent-silent": Fault("", (1.0, 1.0), frozenset({"AgentSilent"})),
    "shard-cancelled": Fault("", (1.0, 1.0), frozenset({"PipelineNotConsuming"})),
    "worker-down": Fault("", (1.0, 1.0), frozenset({"WorkerDown"})),
    **{kind: Fault("", (1.0, 1.0), fault.must, fault.may) for kind, fault in FURTHER.items()},
}
"""`agent-silent` to `worker-down` are of processes; the benchmark takes their series away or turns them."""


def episodes(rounds: int, seed: str, shapes: tuple[str, ...]) -> list[Episode]:
    """Make the given number of episodes for each kind of fault, and as many negatives."""
    faults = [_fault(kind, f"{seed}/{kind}/{turn}", shapes) for kind in FAULTS for turn in range(rounds)]
    kinds = sorted(QUIET)
    negatives = [_negative(kinds[turn % len(kinds)], f"{seed}/negative/{turn}") for turn in range(len(faults))]
    together = [*faults, *negatives]
    return [make(number) for number, make in enumerate(together)]


def _fault(kind: str, seed: str, shapes: tuple[str, ...]) -> Callable[[int], Episode]:
    random, fault = Random(seed), FAULTS[kind]  # noqa: S311 - repeats by its seed
    strength, onset = random.uniform(*fault.strengths), random.uniform(*ONSET)
    shape = random.choice(shapes) if fault.incident in ("high-error-rate", "slow-responses") else "step"

    def make(number: int) -> Episode:
        return Episode(number, kind, seed, strength, shape, onset, fault.must, fault.must | fault.may)

    return make


def _negative(kind: str, seed: str) -> Callable[[int], Episode]:
    onset = Random(seed).uniform(*ONSET)  # noqa: S311 - repeats by its seed
    return lambda number: Episode(number, kind, seed, 1.0, "step", onset, frozenset())


def series(episode: Episode) -> Values:
    """Make every series of the episode, a value each STEP seconds; None where a scrape has none."""
    return _Trace(episode).values()


class _Trace:
    """An episode while it is lived."""

    def __init__(self, episode: Episode) -> None:
        self._episode = episode
        self._random = Random(episode.seed)  # noqa: S311 - repeats by its seed
        fault = FAULTS.get(episode.kind)
        incident = fault.incident if fault else ""
        self._weather = Weather(incident, episode.onset, LASTING, episode.strength, day_seconds=7200)
        self._counted: dict[str, float] = {}
        self._values: Values = {}
        self._base = {name: self._random.uniform(0.2, 0.6) for name in ("pool", "memory", "queue")}

    def values(self) -> Values:
        """Live it from start to end."""
        for moment in range(0, SECONDS, STEP):
            self._moment(float(moment), moment // STEP)
        return self._values

    def _moment(self, now: float, index: int) -> None:
        if self._is_missing(now):
            return
        if self._episode.kind == "reset" and self._is_at(now, 0, STEP):
            self._counted.clear()
        for name, value in self._play(now, self._shape(now)):
            row = self._values.setdefault(name, [])
            row.extend([None] * (index - len(row)))
            row.append(value)

    def _is_missing(self, now: float) -> bool:
        """Tell whether the platform's targets are all missing."""
        kind = self._episode.kind
        if kind == "cold-start":
            return now < self._episode.onset
        return kind == "missed" and (
            self._is_at(now, 0, 10) or self._is_at(now, 300, 305) or self._is_at(now, 600, 612)
        )

    def _is_at(self, now: float, first: float, last: float) -> bool:
        return first <= now - self._episode.onset < last

    def _shape(self, now: float) -> Conditions:
        conditions, age = self._weather.at(now), now - self._episode.onset
        calm = Conditions(conditions.load)
        if self._episode.shape == "ramp" and 0 <= age < 120:
            part = age / 120
            failing = calm.failing + part * (conditions.failing - calm.failing)
            return conditions._replace(failing=failing, slowness=1 + part * (conditions.slowness - 1))
        if self._episode.shape == "flapping" and age >= 0 and age % 60 >= 45:
            return calm
        return conditions

    def _play(self, now: float, conditions: Conditions) -> Iterator[tuple[str, float]]:
        yield from self._targets(now)
        yield from self._tasks(now, conditions)
        yield from self._requests(now, conditions)
        yield from self._levels(now, conditions)
        yield from self._agents(now)
        yield from self._pipeline(now)
        yield from self._further(now)

    def _targets(self, now: float) -> Iterator[tuple[str, float]]:
        kind = self._episode.kind
        is_down = kind == "target-down" and now >= self._episode.onset and now < self._episode.end
        is_deployed = kind == "deploy" and self._is_at(now, 60, 72)
        yield 'up{job="busmon"}', float(not is_deployed)
        yield 'up{job="node"}', float(not is_down)

    def _tasks(self, now: float, conditions: Conditions) -> Iterator[tuple[str, float]]:
        kind, failing = self._episode.kind, conditions.failing
        tasks = round(TASKS_PER_SECOND * STEP * conditions.load)
        if kind == "error-spike" and self._is_at(now, 0, 60):
            failing = 0.05
        if kind == "deploy" and self._is_at(now, 0, 10):
            failing = 0.04
        if kind == "dip" and self._is_at(now, 0, 120):
            tasks //= 10
        if kind == "low-traffic":
            tasks, failing = int(now % 60 < STEP), 0.3
        failed = sum(self._random.random() < failing for _ in range(tasks))
        yield self._count('tasks_processed_total{agent="a",status="success"}', tasks - failed)
        yield self._count('tasks_processed_total{agent="a",status="failure"}', failed)

    def _requests(self, now: float, conditions: Conditions) -> Iterator[tuple[str, float]]:
        requests = round(REQUESTS_PER_SECOND * STEP * conditions.load)
        slowness = conditions.slowness
        if self._episode.kind == "low-traffic":
            requests, slowness = int(now % 60 < STEP), 50.0
        if self._episode.kind == "deploy" and self._is_at(now, 60, 70):
            slowness = 3.0
        middle = math.log(0.06 * slowness)
        taken = [self._random.lognormvariate(middle, 0.9) for _ in range(requests)]
        place = 'endpoint="/v1/tasks",method="POST"'
        for bound in (0.1, 0.5, 1, 2, 5, 10):
            fitting = sum(seconds <= bound for seconds in taken)
            yield self._count(f'api_request_duration_seconds_bucket{{{place},le="{bound}"}}', fitting)
        yield self._count(f'api_request_duration_seconds_bucket{{{place},le="+Inf"}}', requests)
        yield self._count(f"api_request_duration_seconds_count{{{place}}}", requests)

    def _levels(self, now: float, conditions: Conditions) -> Iterator[tuple[str, float]]:
        kind = self._episode.kind
        queue = 900 * self._near("queue") + conditions.backlog
        pool = max(20 * self._near("pool"), 20 * conditions.pool_share)
        memory = 300e6 * self._near("memory") + conditions.leaked_bytes
        if kind == "burst" and now >= self._episode.onset:
            queue += max(0.0, 3000 - 15 * (now - self._episode.onset))
            pool = 20.0 if self._is_at(now, 0, 20) else pool
        if kind == "garbage":
            memory += (now % 240) / 240 * 150e6
        if kind == "cold-start":
            memory *= min(1.0, (now - self._episode.onset + 10) / 130)
        yield 'queue_size{queue="tasks"}', float(round(queue))
        yield 'connection_pool_active{type="postgres"}', float(round(pool))
        yield 'connection_pool_size{type="postgres"}', 20.0
        yield 'memory_usage_bytes{process="analyzer"}', float(round(memory))
        yield 'memory_limit_bytes{process="analyzer"}', 1.5e9
        yield 'service_up{service="postgres"}', float(conditions.database_up)
        yield 'circuit_breaker_state{breaker="postgres",state="open"}', float(not conditions.database_up)

    def _agents(self, now: float) -> Iterator[tuple[str, float]]:
        kind, onset = self._episode.kind, self._episode.onset
        idle = now % HEARTBEAT_SECONDS if kind in IDLE else 0.0
        heard = now - idle - self._random.uniform(0, 2)
        if kind == "agent-silent" and onset <= now < self._episode.end:
            heard = onset
        if kind == "clock" and now >= onset:
            heard -= 30
        stopped = kind == "deploy" and now >= onset + 60
        if stopped and now < onset + 85:
            heard = onset + 60
        yield 'busmon_last_envelope_timestamp_seconds{agent="a"}', heard
        yield 'agent_heartbeats_total{agent="a"}', heard // HEARTBEAT_SECONDS
        yield 'agent_starts_total{agent="a"}', 3.0 + (kind == "deploy" and now >= onset + 85)
        yield 'agent_stops_total{agent="a"}', 2.0 + stopped

    def _pipeline(self, now: float) -> Iterator[tuple[str, float]]:
        kind, is_over = self._episode.kind, now >= self._episode.end
        gone = now >= self._episode.onset and not is_over
        replaced = kind == "deploy" and self._is_at(now, 60, 75)
        yield (
            'busmon_shard_state{shard="0",state="consuming"}',
            float(not (kind == "shard-cancelled" and gone) and not replaced),
        )
        yield 'busmon_worker_up{worker="0"}', float(not (kind == "worker-down" and gone) and not replaced)

    def _further(self, now: float) -> Iterator[tuple[str, float]]:
        for course, is_departed in play(self._episode.kind, now - self._episode.onset, LASTING):
            value = course.fault if is_departed else course.calm
            yield self._count(course.series, value * STEP) if course.is_counter else (course.series, float(value))

    def _near(self, name: str) -> float:
        """Return a level that varies a little around its own mean."""
        return self._base[name] * self._random.uniform(0.9, 1.1)

    def _count(self, name: str, by: float) -> tuple[str, float]:
        self._counted[name] = self._counted.get(name, 0.0) + by
        return name, self._counted[name]
