"""The parts of the simulated platform that exist once: queues, hosts, users, rankings and batch jobs.

The first agent reports them, so that no two agents report different readings of one thing. What is counted depends on
the seed, the weather and the number of steps alone, never on the clock. It belongs to that agent's thread.
"""

import math
import time
from typing import TYPE_CHECKING

from busmon.simulator.chance import Chance, Level
from busmon.simulator.weather import Conditions

if TYPE_CHECKING:
    from busmon.simulator.report import Report

_MEGABYTE = 2**20
_JOBS = ("reindex", "digest", "cleanup")
_JOB_SECONDS = 300.0
_QUEUES = {"tasks": (70.0, 6.0), "results": (24.0, 4.0), "notifications": (9.0, 12.0)}
"""Usual length, and how many times as long a burst is."""
_PRIORITIES = {"low": 34.0, "normal": 41.0, "high": 7.0, "critical": 1.5}
_HOSTS = ("host-1", "host-2", "host-3")
_PROGRESS = {"speed": 0.61, "quality": 0.83, "streak": 0.34}
_RANKS = range(1, 11)


class Platform:
    """The shared parts, as one observer sees them.

    Args:
        report: reports them.
        seed: decides their history.
    """

    def __init__(self, report: "Report", seed: int) -> None:
        self._report = report
        self._chance = chance = Chance(seed, "platform")
        self._queues = {queue: Level(chance, usual, 900, (0.004, burst)) for queue, (usual, burst) in _QUEUES.items()}
        self._waiting = {priority: Level(chance, usual, 400, (0.003, 3.0)) for priority, usual in _PRIORITIES.items()}
        self._cores = [Level(chance, usual, 75, (0.01, 0.4)) for usual in (52, 44, 31, 23)]
        self._disks = [Level(chance, usual * _MEGABYTE, 70_000 * _MEGABYTE) for usual in (52_000, 31_000, 38_000)]
        self._online = Level(chance, 240, 900)
        self._open_votes = Level(chance, 17, 60, (0.02, 1.0))
        self._progress = {category: Level(chance, usual, 0.98) for category, usual in _PROGRESS.items()}

    def start(self) -> None:
        """Report what seldom changes."""
        show = self._report.show
        show("certificate_expiry_timestamp_seconds", "api", value=time.time() + 60 * 86_400)
        for host in _HOSTS:
            show("disk_capacity_bytes", host, "/", value=100_000 * _MEGABYTE)

    def step(self, number: int, now: Conditions, before: float, seconds: float) -> None:
        """Report what an observer sees at a step.

        Args:
            number: of the step.
            now: conditions of the moment.
            before: seconds of the step before, since the start.
            seconds: since the start.
        """
        if number % 5 == 0:
            self._people(now)
        if number % 10 == 0:
            self._queue(now)
            self._hosts(now)
        if number % 20 == 0:
            self._ranking(now)
        turn = math.floor(seconds / _JOB_SECONDS)
        if math.floor(before / _JOB_SECONDS) < turn:
            self._batch_job(_JOBS[turn % len(_JOBS)])

    def _queue(self, now: Conditions) -> None:
        for queue, length in self._queues.items():
            backlog = now.backlog if queue == "tasks" else 0
            self._report.show("queue_size", queue, value=round(length.next(now.load) + backlog))
        for priority, depth in self._waiting.items():
            self._report.show("task_queue_depth", priority, value=round(depth.next(now.load)))

    def _hosts(self, now: Conditions) -> None:
        for core, percent in enumerate(self._cores):
            self._report.show("cpu_usage_percent", str(core), value=percent.next(now.load))
        for host, used in zip(_HOSTS, self._disks, strict=True):
            self._report.show("disk_usage_bytes", host, "/", value=round(used.next()))

    def _people(self, now: Conditions) -> None:
        self._report.show("user_online_count", value=round(self._online.next(now.load)))
        self._report.show("pending_votes_count", value=round(self._open_votes.next(now.load)))

    def _ranking(self, now: Conditions) -> None:
        show = self._report.show
        for category, progress in self._progress.items():
            show("achievement_progress_ratio", category, value=progress.next(now.load**0.2))
        for rank in _RANKS:
            show("user_ranking_points", str(rank), value=round(20_000 * rank**-0.7) + self._chance.whole(0, 60))
            show("content_popularity_score", "task", str(rank), value=900 * rank**-0.9 + self._chance.between(0, 9))
            show("content_popularity_score", "topic", str(rank), value=600 * rank**-0.5 + self._chance.between(0, 9))

    def _batch_job(self, job: str) -> None:
        report = self._report
        report.count("batch_jobs_started_total", job)
        report.count("batch_jobs_completed_total", job)
        report.count("batch_jobs_failed_total", job, by=0)  # a failure's first count is an increase only from 0
        report.show("batch_job_last_success_timestamp_seconds", job, value=time.time())
