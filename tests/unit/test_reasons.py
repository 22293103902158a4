"""Every reason of a rejection is described in the docs, and every reason that docs and rules name exists."""

import re
from pathlib import Path

import pytest

from busmon.errors import RejectedError
from busmon.reasons import BodyReason, SampleReason

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


def test_a_reason_counts_as_its_text_does() -> None:
    error = RejectedError(SampleReason.INVALID_VALUE, "why")
    assert str(error) == "invalid_value: why"
    assert {error.args[0]: 1} == {"invalid_value": 1}
    assert type(SampleReason.INVALID_VALUE).__hash__ is str.__hash__
