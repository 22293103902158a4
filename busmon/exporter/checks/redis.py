"""The check of Redis: `PING`, and the existence of a key that means a warm cache."""

from redis.asyncio.connection import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from busmon.errors import DependencyError
from busmon.exporter.checks.check import Answer, in_words

WARM = "cache_warm"


class RedisCheck:
    """Asks one Redis.

    Args:
        url: as redis-py takes it; over `rediss://`, `?ssl_ca_certs=FILE` names the authorities to trust.
        warm_key: exists while the cache is warm; empty to leave that out.
    """

    def __init__(self, url: str, warm_key: str = "") -> None:
        self.conditions: tuple[str, ...] = (WARM,) if warm_key else ()
        self._url = url
        self._warm_key = warm_key

    async def look(self) -> dict[str, Answer]:
        """Connect, ask, and leave."""
        try:
            # The circuit breaker says when to try again, not the library.
            pool = ConnectionPool.from_url(self._url, retry=Retry(NoBackoff(), 0))
            connection = pool.make_connection()  # type: ignore[no-untyped-call]  # not annotated there
            try:
                await connection.connect()
                await _reply(connection, "PING")
                exists = await _reply(connection, "EXISTS", self._warm_key) if self._warm_key else 0
            finally:
                await connection.disconnect(nowait=True)
        except (RedisError, OSError, ValueError) as error:
            raise DependencyError(in_words(error)) from error
        if not self._warm_key:
            return {}
        return {WARM: Answer(met=bool(exists), cause="" if exists else f"there is no key {self._warm_key!r}")}


async def _reply(connection: Connection, *command: str) -> object:
    await connection.send_command(*command)
    return await connection.read_response()
