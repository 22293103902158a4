"""The check of PostgreSQL: `SELECT 1`, and which migrations are applied, by a query of the user's.

asyncpg alone, since all that it does can be cut off at a deadline. A cancelled psycopg first asks the server to cancel,
and waits up to ten seconds for one that hangs.
"""

from collections.abc import Sequence

import asyncpg

from busmon.errors import DependencyError
from busmon.exporter.checks.check import Answer, in_words

MIGRATION = "database_migration"

_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError)


class PostgresCheck:
    """Asks one database.

    Args:
        url: as libpq takes it, `sslmode`, `sslrootcert`, `sslcert` and `sslkey` included.
        migration_query: its first column is the applied revisions; empty to leave migrations out.
        migration_head: what it is to give once all are applied; empty where any revision will do.
    """

    def __init__(self, url: str, migration_query: str = "", migration_head: Sequence[str] = ()) -> None:
        self.conditions: tuple[str, ...] = (MIGRATION,) if migration_query else ()
        self._url = url
        self._query = migration_query
        self._head = frozenset(migration_head)

    async def look(self) -> dict[str, Answer]:
        """Connect, ask, and leave."""
        try:
            # A pooler between may give each statement another connection, so none is prepared for the next.
            connection = await asyncpg.connect(self._url, statement_cache_size=0)
            try:
                await connection.execute("SELECT 1")
                migration = await self._migration(connection) if self._query else None
                # Said goodbye to, so that the server doesn't log a lost connection.
                await connection.close()
            finally:
                connection.terminate()
        except _ERRORS as error:
            raise DependencyError(in_words(error)) from error
        return {MIGRATION: migration} if migration else {}

    async def _migration(self, connection: asyncpg.Connection) -> Answer:
        try:
            rows = await connection.fetch(self._query)
        except asyncpg.PostgresError as error:
            if connection.is_closed():
                raise
            return Answer(met=False, cause=f"the query fails: {in_words(error)}")
        revisions = (row[0] for row in rows if row)
        applied = frozenset(str(each) for each in revisions if each is not None and each is not False)
        return compare_revisions(applied, self._head)


def compare_revisions(applied: frozenset[str], head: frozenset[str]) -> Answer:
    """Compare the applied revisions with the head's; without a head, any revision will do."""
    if not head:
        return Answer(met=bool(applied), cause="" if applied else "the query gives no revision")
    if applied == head:
        return Answer(met=True)
    found, expected = (", ".join(sorted(revisions)) or "none" for revisions in (applied, head))
    return Answer(met=False, cause=f"applied is {found}, expected {expected}")
