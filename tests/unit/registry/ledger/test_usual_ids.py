"""The compiled judge of usual ids gives the verdicts and makes the changes of the one in Python."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busmon import compiled
from busmon.registry.ledger import ledger as ledgers
from busmon.registry.ledger import usual_ids
from busmon.registry.ledger.ledger import Ledger
from busmon.registry.ledger.source_record import Verdict

COMPILED = compiled.find("busmon.registry.ledger.compiled_usual_ids")
WAYS = {"Python": usual_ids.admit} | ({"compiled": COMPILED.admit} if COMPILED else {})

Batch = tuple[list[tuple[str, str | None, str | None, str]], str]
"""Envelopes with the source, the id, the user and the agent of each, and the end of the batch."""

SOURCES = ("s", "s:", "ä\0", "s:1")
IDS = (None, "", "s", "s:", "s:0", "s:1", "s:2", "s:3", "s:02", "s:1:1", "ä\0:1", "\N{SNOWMAN}", "id", "\0")
USERS = (None, "", "u", "v")

envelopes = st.lists(
    st.tuples(st.sampled_from(SOURCES), st.sampled_from(IDS), st.sampled_from(USERS), st.sampled_from("ab")),
    min_size=1,
    max_size=12,
)
batches = st.lists(st.tuples(envelopes, st.sampled_from(["commit", "rollback", "stay open"])), max_size=6)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(ledgers, "_admit_usual", WAYS[request.param])
    return str(request.param)


def judge(batches: list[Batch], *, checks_users: bool) -> list[object]:
    ledger, said = Ledger(checks_users=checks_users), list[object]()
    for now, (batch, end) in enumerate(batches):
        sources, message_ids, users, agents = zip(*batch, strict=True)
        said.append(ledger.admit_all(sources, message_ids, float(now), users, agents))
        said.append(ledger.dump(ledger.open))
        if end != "stay open":
            getattr(ledger, end)()
        said.append(ledger.dump())
    return said


@pytest.mark.skipif(COMPILED is None, reason="it isn't compiled, or isn't to be used")
@pytest.mark.parametrize("checks_users", [True, False])
@given(batches)
@settings(max_examples=300, deadline=None)
def test_both_judge_alike(
    checks_users: bool,  # noqa: FBT001 - a parameter of the test
    batches: list[Batch],
) -> None:
    said = []
    for admit in WAYS.values():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ledgers, "_admit_usual", admit)
            said.append(judge(batches, checks_users=checks_users))
    assert said[0] == said[1]


@pytest.mark.parametrize("admit", WAYS.values(), ids=WAYS)
def test_usual_ids_are_judged_up_to_one_that_is_not(admit: Callable[..., None]) -> None:
    ledger, verdicts = Ledger(), list[Verdict]()
    ledger.admit("s", "s:1", 1.0)
    admit(
        ["s"] * 6,
        ["s:2", "id", "id", "s:3", "s:5", "s:4"],
        [None] * 6,
        2.0,
        verdicts,
        known=ledger.sources,
        opened=ledger.open.sources,
        ring=ledger.ring,
        digests=ledger.open.digests,
        is_free=False,
    )
    assert verdicts == [Verdict.NEW, Verdict.NEW, Verdict.DUPLICATE, Verdict.NEW]


@pytest.mark.usefixtures("way")
def test_a_digest_is_of_8_bytes_of_blake2b() -> None:
    ledger = Ledger()
    ledger.admit("s", "s:1", 1.0)
    ledger.admit("s", "id", 1.0)
    assert [*ledger.open.digests] == [usual_ids.digest_of("s", b"id")]
    assert usual_ids.digest_of("s", b"id") == 0x84A477C0CBD2A3FC  # from `printf 's\0id' | b2sum -l 64`


@pytest.mark.usefixtures("way")
def test_an_id_that_cannot_be_encoded_is_an_error_in_both() -> None:
    ledger = Ledger()
    ledger.admit("s", "s:1", 1.0)
    with pytest.raises(UnicodeEncodeError):
        ledger.admit("s", "\ud800", 1.0)
