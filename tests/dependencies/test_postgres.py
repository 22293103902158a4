"""The check of PostgreSQL, against a real one."""

from collections.abc import Iterator

import pytest

from busmon.exporter.checks.postgres import MIGRATION, PostgresCheck

from .looking import failure, is_cut_off, look
from .servers import PASSWORD, Postgres, Redis, free_port, silent_server

ALEMBIC = "SELECT version_num FROM alembic_version"


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Postgres]:
    """A server with an empty version table in the database `postgres`."""
    postgres.execute("CREATE TABLE alembic_version (version_num text)")
    yield postgres
    postgres.execute("DROP TABLE alembic_version")


def migration(postgres: Postgres, *head: str, query: str = ALEMBIC) -> tuple[bool, str]:
    return look(PostgresCheck(postgres.url(), query, head))[MIGRATION]


def test_one_that_answers_needs_no_more(postgres: Postgres) -> None:
    assert look(PostgresCheck(postgres.url())) == {}


def test_migrations_are_pending_before_the_first_one_made_its_table(postgres: Postgres) -> None:
    assert migration(postgres) == (False, 'the query fails: relation "alembic_version" does not exist')


def test_migrations_are_pending_while_the_table_is_empty(database: Postgres) -> None:
    assert migration(database) == (False, "the query gives no revision")
    assert migration(database, "b2") == (False, "applied is none, expected b2")


def test_without_an_expected_head_any_revision_is_complete(database: Postgres) -> None:
    database.execute("INSERT INTO alembic_version VALUES ('a1')")
    assert migration(database) == (True, "")


def test_with_an_expected_head_exactly_that_is_complete(database: Postgres) -> None:
    database.execute("INSERT INTO alembic_version VALUES ('a1')")
    assert migration(database, "b2") == (False, "applied is a1, expected b2")
    database.execute("UPDATE alembic_version SET version_num = 'b2'")
    assert migration(database, "b2") == (True, "")


def test_several_heads_are_complete_once_all_are_applied_and_no_other(database: Postgres) -> None:
    database.execute("INSERT INTO alembic_version VALUES ('b2')")
    assert migration(database, "b2", "c3") == (False, "applied is b2, expected b2, c3")
    database.execute("INSERT INTO alembic_version VALUES ('c3')")
    assert migration(database, "c3", "b2") == (True, "")
    assert migration(database, "c3") == (False, "applied is b2, c3, expected c3")


@pytest.mark.parametrize(
    ("query", "complete"),
    [
        ("SELECT count(*) = 0 FROM pg_class", False),
        ("SELECT count(*) > 0 FROM pg_class", True),
        ("SELECT max(oid) FROM pg_class WHERE false", False),
        ("SELECT 0", True),
        ("SELECT ARRAY['a1']", True),
        ("SELECT FROM pg_class", False),
        ("SELECT no_such_column", False),
        ("SELECT pg_sleep(0), 1/0", False),
    ],
)
def test_any_tools_query_will_do_where_null_and_false_are_no_revision(
    postgres: Postgres, query: str, *, complete: bool
) -> None:
    assert migration(postgres, query=query)[0] is complete


def test_a_wrong_password_is_said_without_the_password(postgres: Postgres) -> None:
    line = failure(PostgresCheck(postgres.url(password=f"{PASSWORD}!")))
    assert line == 'password authentication failed for user "app"'


def test_a_database_that_is_not_there_is_named(postgres: Postgres) -> None:
    assert failure(PostgresCheck(postgres.url("nowhere"))) == 'database "nowhere" does not exist'


def test_nobody_listening_is_the_systems_own_word() -> None:
    assert failure(PostgresCheck(f"postgresql://127.0.0.1:{free_port()}/app")) == "Connection refused"


def test_a_certificate_that_holds_is_enough(postgres: Postgres) -> None:
    query = f"?sslmode=verify-full&sslrootcert={postgres.ca}"
    assert look(PostgresCheck(postgres.url(host="localhost", query=query))) == {}


def test_another_name_than_the_certificates_is_refused(postgres: Postgres) -> None:
    query = f"?sslmode=verify-full&sslrootcert={postgres.ca}"
    assert "IP address mismatch" in failure(PostgresCheck(postgres.url(host="127.0.0.1", query=query)))


def test_another_authoritys_certificate_is_refused(postgres: Postgres, redis: Redis) -> None:
    query = f"?sslmode=verify-ca&sslrootcert={redis.ca}"
    line = failure(PostgresCheck(postgres.url(query=query)))
    assert line == "its certificate is refused: unable to get local issuer certificate"


def test_one_that_never_answers_is_cut_off() -> None:
    with silent_server() as port:
        assert is_cut_off(PostgresCheck(f"postgresql://app:x@127.0.0.1:{port}/app?sslmode=disable"))


def test_a_query_that_never_ends_is_cut_off(postgres: Postgres) -> None:
    assert is_cut_off(PostgresCheck(postgres.url(), "SELECT pg_sleep(3600)"))


def test_a_server_that_hangs_is_cut_off(postgres: Postgres) -> None:
    with postgres.hanging():
        assert is_cut_off(PostgresCheck(postgres.url()))
