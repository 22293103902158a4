"""The collectors of a prometheus_client registry, each read on its own: a faulty one costs its own families.

A registry's `collect` ends with the first collector that raises, and blocks with one that doesn't return. Here each
fault is told once for its collector, and a collector that doesn't return in time is left out until it has. One thread
at a time; the collectors are called on threads of their own, as they are by an HTTP server.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from threading import Thread
from typing import Any

COLLECT_SECONDS = 5.0
"""How long the publishing thread waits for a registry: a source must be heard every 15 s."""

_logger = logging.getLogger("busmon")


class Collecting:
    """Reads a registry.

    Args:
        registry: a `CollectorRegistry`, or another object with `collect`.
        wait_seconds: how long a collector may take.
    """

    def __init__(self, registry: Any, wait_seconds: float = COLLECT_SECONDS) -> None:
        self._registry = registry
        self._wait_seconds = wait_seconds
        self._stuck: dict[Any, _Reading] = {}
        self._told: set[Any] = set()

    def families(self) -> Iterator[Any]:
        """Yield every family that the collectors give now."""
        self._stuck = {collector: reading for collector, reading in self._stuck.items() if reading.is_alive()}
        left: Sequence[Any] = [collector for collector in _collectors(self._registry) if collector not in self._stuck]
        while left:
            reading = _Reading(left)
            reading.start()
            reading.join(self._wait_seconds)
            left = self._rest(reading, left)
            yield from reading.families

    def forget_threads(self) -> None:
        """Read all collectors again: no thread of the parent exists in a forked child."""
        self._stuck = {}

    def _rest(self, reading: "_Reading", collectors: Sequence[Any]) -> Sequence[Any]:
        """Tell the faults of a reading, and return the collectors that it didn't come to."""
        reading.is_abandoned = True
        for collector, error in reading.faults:
            self._tell(collector, f"{type(error).__name__}: {error}")
        if reading.is_complete:
            return ()
        at = reading.position
        if reading.is_alive():
            self._stuck[collectors[at]] = reading
            self._tell(collectors[at], f"it takes more than {self._wait_seconds:g} s, and is left out until it returns")
        return collectors[at + 1 :]

    def _tell(self, collector: Any, fault: str) -> None:
        if collector not in self._told:
            self._told.add(collector)
            _logger.warning("a collector of the registry failed: %s: %s", type(collector).__qualname__, fault)


class _Reading(Thread):
    """One call of each of some collectors, in their order.

    Attributes:
        families: those that were given.
        faults: collectors that raised, with their exception.
        position: of the collector that is being called.
        is_complete: each collector was called.
        is_abandoned: nobody waits for it any more.
    """

    def __init__(self, collectors: Sequence[Any]) -> None:
        super().__init__(name="busmon-bridge", daemon=True)
        self._collectors = collectors
        self.families: list[Any] = []
        self.faults: list[tuple[Any, BaseException]] = []
        self.position = 0
        self.is_complete = False
        self.is_abandoned = False

    def run(self) -> None:
        for position, collector in enumerate(self._collectors):
            self.position = position
            try:
                for family in collector.collect():
                    if self.is_abandoned:
                        return
                    self.families.append(family)
            except BaseException as error:  # noqa: BLE001 - the others are called after `sys.exit` in one, too
                self.faults.append((collector, error))
            if self.is_abandoned:
                return
        self.is_complete = True


class _Target:
    """The registry's target info, as a collector of its own."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Any]:
        if self._registry.get_target_info():
            yield self._registry._target_info_metric()  # noqa: SLF001 - it has no public name


def _collectors(registry: Any) -> list[Any]:
    """List the registry's collectors; the registry itself where it isn't prometheus_client's own."""
    collectors = getattr(registry, "_collector_to_names", None)  # no public name gives them one by one
    return [registry] if collectors is None else [*collectors, _Target(registry)]
