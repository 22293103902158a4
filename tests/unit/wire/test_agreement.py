"""The JSON Schema and the product agree, both ways: what the schema takes is folded, what it refuses is refused.

What the schema can't know is the catalogue: a well-formed sample may still be at odds with its metric's family.
"""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from busmon.cli.schema import schema
from busmon.errors import EnvelopeError
from busmon.wire.json_v1 import decode
from tests.unit.registry.fold.test_any_json import DOCUMENT, documents
from tests.unit.registry.registries import MAX_BYTES, NOW, Registry, fresh_directory

from .envelopes import SAMPLES, TABLES, Case, broken_samples, valid_samples

ENVELOPE = jsonschema.Draft202012Validator(schema("envelope"))
SAMPLE = jsonschema.Draft202012Validator(schema("sample"))

FOR_THE_CATALOGUE = {
    "unknown_metric",
    "name_clash",
    "reserved_name",
    "family_budget",
    "type_mismatch",
    "op_mismatch",
    "outlives_source_mismatch",
    "label_mismatch",
    "bucket_mismatch",
    "non_finite",
}
FOR_THE_FAMILY = {"negative_increment", "invalid_value"}
"""What only a type tells: that a counter takes no -1, and a gauge no buckets. Without one, the catalogue has it."""


def reasons(directory: Path, *, samples: list[Any] | None = None, tables: list[Any] | None = None) -> set[str]:
    """Why these are rejected, as they go through the decoder and the fold."""
    body = json.dumps({"v": 1, "source": "s", "samples": samples, "tables": tables}).encode()
    with Registry(directory) as registry:
        registry.shard.fold.envelope(decode(body, None, None, MAX_BYTES), NOW)
        registry.commit()
        return set(registry.rejected())


@pytest.mark.parametrize("case", SAMPLES, ids=lambda case: case.name)
def test_a_sample_of_the_table_is_folded_or_rejected(case: Case, tmp_path: Path) -> None:
    assert (reasons(tmp_path, samples=[case.document]) == set()) is case.valid


@pytest.mark.parametrize("case", TABLES, ids=lambda case: case.name)
def test_a_table_of_the_table_is_folded_or_rejected(case: Case, tmp_path: Path) -> None:
    assert (reasons(tmp_path, tables=[case.document]) == set()) is case.valid


@settings(max_examples=75, deadline=None)
@given(valid_samples)
def test_every_form_of_sample_is_folded_unless_the_catalogue_says_no(sample: Any) -> None:
    with fresh_directory() as directory:
        assert reasons(directory, samples=[sample]) <= FOR_THE_CATALOGUE


@settings(max_examples=75, deadline=None)
@given(broken_samples)
def test_one_wrong_member_gets_a_sample_rejected(sample: Any) -> None:
    with fresh_directory() as directory:
        assert len(reasons(directory, samples=[sample])) == 1


@settings(max_examples=150, deadline=None)
@given(documents())
@example({"v": 1.0, "source": "s", "samples": []})
def test_what_the_schema_says_of_an_envelope_the_decoder_says(document: Any) -> None:
    """The envelope alone, without what is in its lists; 1.0 is a version 1 for JSON Schema, and only there."""
    emptied = document
    if isinstance(document, dict):
        lists: dict[str, list[Any]] = {
            name: [] for name in ("samples", "tables") if isinstance(document.get(name), list)
        }
        emptied = document | lists
    assume(is_json(emptied) and not (isinstance(emptied, dict) and isinstance(emptied.get("v"), float)))
    try:
        decode(json.dumps(emptied).encode(), None, None, MAX_BYTES)
    except EnvelopeError:
        assert not ENVELOPE.is_valid(emptied)
    else:
        assert ENVELOPE.is_valid(emptied)


@settings(max_examples=150, deadline=None)
@given(documents())
@example({"samples": [{"name": "waits", "type": "histogram", "buckets": {"1": 3.0, "+Inf": 0}, "sum": 1}]})
@example({"samples": [{"name": "open_files", "type": "gauge", "labels": [], "value": 1}]})
def test_what_the_schema_says_of_a_sample_the_fold_says(document: Any) -> None:
    samples = document.get("samples") if isinstance(document, dict) else None
    assume(isinstance(samples, list) and is_json(samples))
    for sample in samples or []:
        if sample in DOCUMENT["samples"]:
            continue
        with fresh_directory() as directory:
            found = reasons(directory, samples=[sample])
        if SAMPLE.is_valid(sample):
            assert found <= (FOR_THE_CATALOGUE if sample.get("type") else FOR_THE_CATALOGUE | FOR_THE_FAMILY)
        else:
            assert found


def is_json(document: Any) -> bool:
    """Tell whether it has no NaN or infinity, number beyond the floats, nor half a surrogate pair."""
    try:
        text = json.dumps(document, allow_nan=False, ensure_ascii=False)
        text.encode()
        return json.loads(text, parse_int=float) is not None and "1" + "0" * 400 not in text
    except ValueError:
        return False


@given(st.sampled_from(SAMPLES))
def test_the_schema_agrees_with_the_table(case: Case) -> None:
    assert SAMPLE.is_valid(case.document) is case.valid
