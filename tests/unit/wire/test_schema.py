from collections.abc import Iterable
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from busmon.catalogue import Catalogue, example
from busmon.cli.schema import schema

from .envelopes import (
    ENVELOPES,
    SAMPLES,
    TABLES,
    Case,
    broken_envelopes,
    broken_samples,
    valid_envelopes,
    valid_samples,
)

ENVELOPE = jsonschema.Draft202012Validator(schema("envelope"))
SAMPLE = jsonschema.Draft202012Validator(schema("sample"))


def cases(table: Iterable[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("document", "valid"), [pytest.param(c.document, c.valid, id=c.name) for c in table])


@pytest.mark.parametrize("name", ["envelope", "sample"])
def test_a_schema_is_one(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))


@pytest.mark.parametrize("example", schema("envelope")["examples"])
def test_the_envelopes_examples_are_envelopes(example: Any) -> None:
    ENVELOPE.validate(example)


@pytest.mark.parametrize("example", schema("sample")["examples"])
def test_the_samples_examples_are_samples(example: Any) -> None:
    SAMPLE.validate(example)


@cases(ENVELOPES)
def test_the_schema_tells_an_envelope_from_what_is_none(document: Any, valid: bool) -> None:  # noqa: FBT001
    assert ENVELOPE.is_valid(document) is valid


@cases(SAMPLES)
def test_the_schema_tells_a_good_sample_from_a_bad_one(document: Any, valid: bool) -> None:  # noqa: FBT001
    assert SAMPLE.is_valid(document) is valid


@cases(SAMPLES)
def test_a_bad_sample_is_seen_within_its_envelope(document: Any, valid: bool) -> None:  # noqa: FBT001
    assert ENVELOPE.is_valid({"v": 1, "source": "s", "samples": [document]}) is valid


@cases(TABLES)
def test_the_schema_tells_a_good_table_from_a_bad_one(document: Any, valid: bool) -> None:  # noqa: FBT001
    assert ENVELOPE.is_valid({"v": 1, "source": "s", "tables": [document]}) is valid


@settings(deadline=None)
@given(valid_samples)
def test_every_form_of_sample_is_accepted(sample: Any) -> None:
    SAMPLE.validate(sample)


@settings(deadline=None)
@given(broken_samples)
def test_one_wrong_member_spoils_a_sample(sample: Any) -> None:
    assert not SAMPLE.is_valid(sample)


@settings(deadline=None)
@given(valid_envelopes)
def test_every_form_of_envelope_is_accepted(envelope: Any) -> None:
    ENVELOPE.validate(envelope)


@settings(deadline=None)
@given(broken_envelopes)
def test_one_wrong_member_spoils_an_envelope(envelope: Any) -> None:
    assert not ENVELOPE.is_valid(envelope)


@pytest.mark.parametrize("family", Catalogue.load().families.values(), ids=lambda family: family.name)
def test_every_familys_example_is_an_envelope(family: Any) -> None:
    ENVELOPE.validate(example.envelope(family))
