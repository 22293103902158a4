"""Mapping rules: which name is of which family, and which labels it then has."""

from pathlib import Path

import pytest

from busmon.catalogue.catalogue import Catalogue
from busmon.catalogue.mapping import MappingRule, Mappings, label_name
from busmon.errors import CatalogueError

RULE = MappingRule("app.*.requests.*", "requests_total", {"service": "$1", "status": "s-$2", "path": "{http.route}"})


def test_a_star_is_one_part_of_a_name() -> None:
    assert RULE.matches("app.web.requests.ok")
    assert not any(
        map(RULE.matches, ("app.web.requests", "app.web.x.requests.ok", "app..requests.ok", "xapp.a.requests.b"))
    )


def test_labels_are_made_of_the_globs_parts_and_of_what_the_producer_says() -> None:
    labels = {"http_route": "/x", "host": "a"}
    applied = RULE.apply("app.web.requests.ok", {"http.route": "/x", "host": "a"}, labels)
    assert applied == ("requests_total", {"host": "a", "service": "web", "status": "s-ok", "path": "/x"})


def test_a_label_of_which_nothing_is_said_is_left_out() -> None:
    rule = MappingRule("app.*", "app", {"path": "{http.route}", "second": "$2"})
    assert rule.apply("app.web", {}, {}) == ("app", {})


def test_the_first_rule_that_matches_counts() -> None:
    rules = Mappings([MappingRule("a.b", "first", {}), MappingRule("a.*", "second", {})])
    assert [rule.name if (rule := rules.find(name)) else None for name in ("a.b", "a.c", "b")] == [
        "first",
        "second",
        None,
    ]


@pytest.mark.parametrize(
    ("attribute", "label"),
    [("http.route", "http_route"), ("2xx", "_2xx"), ("job", "exported_job"), ("plain_1", "plain_1")],
)
def test_an_attributes_name_becomes_a_labels(attribute: str, label: str) -> None:
    assert label_name(attribute) == label


def test_the_rules_of_an_earlier_file_come_first(tmp_path: Path) -> None:
    paths = []
    for name in ("first", "second"):
        paths.append(tmp_path / f"{name}.toml")
        paths[-1].write_text(f'[[mappings]]\nmatch = "a"\nname = "{name}"\nlabels = {{ x = "$1" }}\n')
    rule = Catalogue.load(paths).mappings.find("a")
    assert rule == MappingRule("a", "first", {"x": "$1"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mappings = 7", "mappings: expected tables [[mappings]]"),
        ("mappings = [7]", "mappings[0]: expected the keys match, name and labels"),
        ('[[mappings]]\nmatch = "a"\nname = "a"\nkind = "x"', "mappings[0]: expected the keys match, name and labels"),
        (
            '[[mappings]]\nmatch = "a"\nname = "a"\nlables = {}',
            "mappings[0]: expected the keys match, name and labels, not 'lables'; did you mean 'labels'?",
        ),
        ('[[mappings]]\nname = "a"', "mappings[0].match: expected a glob such as 'app.*.requests'"),
        ('[[mappings]]\nmatch = "a"', "mappings[0].name: expected a family's name"),
        ('[[mappings]]\nmatch = "a"\nname = "a.b"', "mappings[0].name: expected a family's name: a metric's name"),
        (
            '[[mappings]]\nmatch = "a"\nname = "a"\nlabels = {x = 1}',
            "mappings[0].labels: expected a text for each label",
        ),
        (
            '[[mappings]]\nmatch = "a"\nname = "a"\nlabels = {le = "x"}',
            "mappings[0].labels: expected other labels: label 'le'",
        ),
    ],
)
def test_a_rule_that_is_not_accepted_is_one_line(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(CatalogueError) as wrong:
        Catalogue.load([path])
    assert str(wrong.value).startswith(f"{path}: {expected}")
    assert "\n" not in str(wrong.value)
