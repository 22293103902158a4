"""The check of Redis, against a real one."""

import pytest

from busmon.exporter.checks.redis import WARM, RedisCheck

from .looking import failure, is_cut_off, look
from .servers import PASSWORD, Postgres, Redis, free_port, silent_server


def test_one_that_answers_needs_no_more(redis: Redis) -> None:
    assert look(RedisCheck(redis.url())) == {}


def test_the_cache_is_warm_while_its_key_exists(redis: Redis) -> None:
    check = RedisCheck(redis.url(), "cache:warm")
    assert look(check)[WARM] == (False, "there is no key 'cache:warm'")
    redis.execute("HSET", "cache:warm", "since", "today")
    assert look(check)[WARM] == (True, "")
    redis.execute("DEL", "cache:warm")
    assert not look(check)[WARM].met


def test_a_wrong_password_is_said_without_the_password(redis: Redis) -> None:
    line = failure(RedisCheck(redis.url(password=f"{PASSWORD}!")))
    assert "invalid username-password pair" in line
    assert PASSWORD not in line


def test_nobody_listening_is_the_systems_own_word() -> None:
    assert failure(RedisCheck(f"redis://127.0.0.1:{free_port()}")) == "Connection refused"


def test_what_is_no_redis_is_said(postgres: Postgres) -> None:
    assert failure(RedisCheck(f"redis://127.0.0.1:{postgres.port}"))


def test_a_certificate_that_holds_is_enough(redis: Redis) -> None:
    query = f"?ssl_ca_certs={redis.ca}"
    assert look(RedisCheck(redis.url(scheme="rediss", host="localhost", query=query))) == {}


def test_another_name_than_the_certificates_is_refused(redis: Redis) -> None:
    query = f"?ssl_ca_certs={redis.ca}"
    assert "IP address mismatch" in failure(RedisCheck(redis.url(scheme="rediss", query=query)))


def test_a_certificate_of_nobody_known_is_refused(redis: Redis) -> None:
    assert "its certificate is refused" in failure(RedisCheck(redis.url(scheme="rediss", host="localhost")))


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_one_that_never_answers_is_cut_off(scheme: str) -> None:
    with silent_server() as port:
        assert is_cut_off(RedisCheck(f"{scheme}://127.0.0.1:{port}"))


def test_a_server_that_hangs_is_cut_off(redis: Redis) -> None:
    with redis.hanging():
        assert is_cut_off(RedisCheck(redis.url()))
