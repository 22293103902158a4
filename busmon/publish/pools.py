"""Connection pools: what they may hold and what is in use, read at an interval; by their type's own figures.

No pool's library is imported: a pool is known by the module of its class. Pools of one type in one process are added
up, since they share a series. A pool is not kept alive by being watched. On the publishing thread, but for `add`.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import ref

from busmon.publish.definitions import Definitions

_UNBOUNDED = 2**31
"""redis-py's own default, which is no bound."""


class Use(NamedTuple):
    """Connections of a pool: those it may hold, 0 where it has no bound, and those in use."""

    size: int
    active: int


class Pools:
    """The pools of one process; `read` sets their gauges."""

    def __init__(self, definitions: Definitions) -> None:
        self._size = definitions.gauge("connection_pool_size", labelnames=["type"], domain="system")
        self._active = definitions.gauge("connection_pool_active", labelnames=["type"], domain="system")
        self._pools: list[tuple[str, Callable[[], Any], Callable[[Any], Use]]] = []

    def add(self, pool: object, type_: str | None) -> None:
        """Watch a pool.

        Raises:
            TypeError: it is none that is known.
        """
        for module, (usual_type, find, use) in _KINDS.items():
            if any(base.__module__.split(".")[0] == module for base in type(pool).__mro__):
                found = find(pool)
                self._pools.append((type_ or usual_type(pool), ref(found), use))
                return
        kinds = "an SQLAlchemy engine or pool, a psycopg_pool, a redis-py client or pool"
        raise TypeError(f"watch_pool: {type(pool).__name__} isn't {kinds}")

    def read(self) -> None:
        """Look at all pools."""
        sums: defaultdict[str, Use] = defaultdict(lambda: Use(0, 0))
        for type_, get, use in tuple(self._pools):
            found = get()
            if found is not None:
                now = use(found)
                sums[type_] = Use(sums[type_].size + now.size, sums[type_].active + now.active)
        for type_, total in sums.items():
            self._size.labels(type_).set(total.size)
            self._active.labels(type_).set(total.active)


def _sqlalchemy_pool(given: Any) -> Any:
    engine = getattr(given, "sync_engine", given)
    return getattr(engine, "pool", engine)


def _sqlalchemy_type(given: Any) -> str:
    dialect = getattr(getattr(given, "dialect", None), "name", "postgresql")
    return "postgres" if dialect == "postgresql" else str(dialect)


def _sqlalchemy_use(pool: Any) -> Use:
    size = getattr(pool, "size", int)()
    overflow = max(0, getattr(pool, "_max_overflow", 0))
    return Use(size + overflow, getattr(pool, "checkedout", int)())


def _psycopg_use(pool: Any) -> Use:
    stats = pool.get_stats()
    return Use(stats["pool_max"], stats["pool_size"] - stats["pool_available"])


def _redis_use(pool: Any) -> Use:
    size = pool.max_connections
    in_use = getattr(pool, "_in_use_connections", ())
    return Use(size if size < _UNBOUNDED else 0, len(in_use))


_KINDS: dict[str, tuple[Callable[[Any], str], Callable[[Any], Any], Callable[[Any], Use]]] = {
    "sqlalchemy": (_sqlalchemy_type, _sqlalchemy_pool, _sqlalchemy_use),
    "psycopg_pool": (lambda _: "postgres", lambda pool: pool, _psycopg_use),
    "redis": (lambda _: "redis", lambda given: getattr(given, "connection_pool", given), _redis_use),
}
