import asyncio
import threading
from base64 import b64encode
from hashlib import sha256

import bcrypt
import pytest

from busmon.exporter.access import authentication
from busmon.exporter.access.authentication import MAX_WAITING, Authentication, BusyError

PASSWORD = "corréct horse:battery".encode()


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Record the hash that each computed bcrypt hash is compared with."""
    computed: list[bytes] = []
    compare = bcrypt.checkpw

    def checkpw(password: bytes, hashed: bytes) -> bool:
        computed.append(hashed)
        return compare(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    return computed


def known(*users: str, cost: int = 4) -> Authentication:
    hashed = bcrypt.hashpw(PASSWORD, bcrypt.gensalt(cost))
    return Authentication(dict.fromkeys(users, hashed), {"grafana": sha256(b"a token").digest()})


def basic(user: str, password: bytes = PASSWORD) -> bytes:
    return b"Basic " + b64encode(user.encode() + b":" + password)


def test_a_user_is_known_by_the_password_and_a_bearer_by_the_token() -> None:
    async def ask() -> list[bool]:
        users = known("joe")
        offered = (
            basic("joe"),
            b"bAsIc  " + basic("joe")[6:],
            b"Bearer a token",
            basic("joe", b"wrong"),
            basic("jim"),
            basic("joe", b""),
            basic("joe", b"\0" + PASSWORD),
            basic("joe", b"x" * 5000),
            b"Bearer another",
            b"Bearer",
            b"Basic",
            b"Basic !!!",
            b"Basic am9l",
            b"Digest a token",
            b"",
        )
        return [await users.knows(authorization) for authorization in offered]

    assert asyncio.run(ask()) == [True] * 3 + [False] * 12


def test_fifty_scrapers_cost_one_hash(hashes: list[bytes]) -> None:
    async def ask() -> list[bool]:
        users = known("joe")
        first = [await users.knows(basic("joe"))]
        return first + await asyncio.gather(*(users.knows(basic("joe")) for _ in range(50)))

    assert asyncio.run(ask()) == [True] * 51
    assert len(hashes) == 1


def test_a_client_that_leaves_lets_no_second_hash_begin_before_its_own_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    began, end = threading.Semaphore(0), threading.Semaphore(0)
    under_way: list[int] = []
    running = 0

    def checkpw(*_: bytes) -> bool:
        nonlocal running
        running += 1
        under_way.append(running)
        began.release()
        end.acquire()
        running -= 1
        return False

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)

    async def ask() -> None:
        users = known("joe")
        gone = asyncio.create_task(users.knows(basic("joe", b"guess")))
        await asyncio.to_thread(began.acquire)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        other = asyncio.create_task(users.knows(basic("joe", b"another")))
        await asyncio.sleep(0)
        end.release(2)
        assert not await other

    asyncio.run(ask())
    assert under_way == [1, 1]


def test_an_unknown_user_costs_what_a_known_one_does(hashes: list[bytes]) -> None:
    async def ask(users: Authentication) -> bool:
        return await users.knows(basic("jim", b"wrong")) or await users.knows(basic("joe", b"wrong"))

    assert not asyncio.run(ask(known("joe", cost=5)))
    assert [hashed[:7] for hashed in hashes] == [b"$2b$05$"] * 2


def test_guesses_never_push_out_a_known_scraper(hashes: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "_REMEMBERED", 3)

    async def ask() -> bool:
        users = known("joe")
        await users.knows(basic("joe"))
        for guess in range(10):
            await users.knows(basic("joe", b"%d" % guess))
        before = len(hashes)
        return await users.knows(basic("joe")) and len(hashes) == before

    assert asyncio.run(ask())


def test_a_flood_of_guesses_is_told_to_come_again_and_keeps_no_known_scraper_waiting(
    hashes: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    all_have_come = threading.Event()
    compare = bcrypt.checkpw

    def checkpw(password: bytes, hashed: bytes) -> bool:
        assert all_have_come.wait(30)
        return compare(password, hashed)

    async def ask() -> tuple[list[bool | BaseException], bool, int]:
        users = known("joe")
        await users.knows(basic("joe"))
        monkeypatch.setattr(bcrypt, "checkpw", checkpw)
        guesses = [asyncio.create_task(users.knows(basic("joe", b"%d" % guess))) for guess in range(MAX_WAITING + 9)]
        await asyncio.sleep(0)
        scraper = await users.knows(basic("joe"))
        undone = sum(not guess.done() for guess in guesses)
        all_have_come.set()
        return await asyncio.gather(*guesses, return_exceptions=True), scraper, undone

    answers, scraper, undone = asyncio.run(ask())
    assert scraper
    assert undone == MAX_WAITING
    assert sum(isinstance(answer, BusyError) for answer in answers) == 9
    assert len(hashes) == 1 + MAX_WAITING


def test_the_challenge_names_what_is_accepted() -> None:
    assert known("joe").challenge == 'Basic realm="busmon", charset="UTF-8", Bearer realm="busmon"'
    assert Authentication({}, {"a": b"b"}).challenge == 'Bearer realm="busmon"'
