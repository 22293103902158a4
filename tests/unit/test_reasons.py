"""Every reason of a rejection is described in the docs, and every reason that docs and rules name exists."""

import re
from pathlib import Path

import orjson
import pytest
from pika import BasicProperties
from pika.spec import Basic

from busmon.bus.frames.delivery import Delivery
from busmon.errors import MAX_DETAIL_CHARACTERS, EnvelopeError, RejectedError
from busmon.reasons import BodyReason, SampleReason
from busmon.wire.formats import Formats

ROOT = Path(__file__).parents[2]
DESCRIBED_IN = ("docs/wire-format.md", "docs/formats.md")
NAMED_IN = (*ROOT.glob("docs/**/*.md"), *ROOT.glob("busmon/**/*.toml"), *ROOT.glob("busmon/dashboards/*.py"))
UNREACHABLE = {SampleReason.INVALID_MERGE}  # a sample states an op, and a wrong one is an invalid_op
SELECTOR = re.compile(r"busmon_(samples|envelopes)_rejected_total\{[^}]*reason(=~?)\"([^\"]+)\"")


@pytest.mark.parametrize("reason", sorted({*SampleReason, *BodyReason} - UNREACHABLE), ids=str)
def test_every_reason_is_described(reason: str) -> None:
    described = "".join((ROOT / page).read_text() for page in DESCRIBED_IN)
    assert f"`{reason}`" in described


def test_every_reason_that_is_selected_exists() -> None:
    known = {"samples": {*map(str, SampleReason)}, "envelopes": {*map(str, BodyReason)}}
    selected = [found.groups() for path in NAMED_IN for found in SELECTOR.finditer(path.read_text())]
    assert selected
    for kind, operator, reasons in selected:
        for reason in reasons.split("|") if operator == "=~" else [reasons]:
            assert reason in known[kind]


@pytest.mark.parametrize("stated", ["\x7f", "\U0010ffff", "'\"", "\\"], ids=ascii)
def test_a_refusal_of_a_body_is_a_short_line(stated: str) -> None:
    event = {"specversion": stated * 100, "id": "1", "source": "s", "data": {}}
    cases = (
        (BodyReason.INVALID_CLOUDEVENT, "application/cloudevents+json", None, orjson.dumps(event)),
        (BodyReason.CONTENT_TYPE, stated * 60, None, b"{}"),
        (BodyReason.CONTENT_ENCODING, "application/json", stated * 60, b"{}"),
    )
    formats = Formats((), "queue", 1 << 20)
    for reason, content_type, content_encoding, body in cases:
        properties = BasicProperties(content_type, content_encoding)
        delivery = Delivery.from_pika(Basic.Deliver(routing_key="k", exchange="e", delivery_tag=1), properties, body)
        with pytest.raises(EnvelopeError) as raised:
            formats.decode(delivery)
        assert raised.value.reason == reason
        assert raised.value.detail.isprintable()
        assert len(raised.value.detail) <= MAX_DETAIL_CHARACTERS


def test_a_reason_counts_as_its_text_does() -> None:
    error = RejectedError(SampleReason.INVALID_VALUE, "why")
    assert str(error) == "invalid_value: why"
    assert {error.args[0]: 1} == {"invalid_value": 1}
    assert type(SampleReason.INVALID_VALUE).__hash__ is str.__hash__
