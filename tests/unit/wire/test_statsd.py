"""StatsD lines in the dialects that clients speak: to which series each line adds, and how much."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from busmon.catalogue.catalogue import Catalogue
from busmon.errors import EnvelopeError
from busmon.wire.arrival import Arrival
from busmon.wire.formats import DECODERS
from tests.unit.registry.registries import CATALOGUE, NOW

from .folded import Folded

Series = dict[str, str]
Open = Callable[..., Folded]

ACCUMULATING = """
[gauge.inflight]
help = "Requests in flight"
merge = "add"
"""


@pytest.fixture
def folded(tmp_path: Path) -> Iterator[Open]:
    (tmp_path / "registry").mkdir()
    opened: list[Folded] = []

    def open_(format_: str = "statsd", catalogue: Catalogue = CATALOGUE) -> Folded:
        opened.append(Folded(tmp_path / "registry", format_, catalogue=catalogue))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


# -- which part is the name, and which the value ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "name", "labels", "value"),
    [
        ("c,src=10.0.0.1:8080:1|c", "c_total", {"src": "10.0.0.1:8080"}, 1),
        ("c,src=[::1]:8080,path=a:b:2.5|c", "c_total", {"src": "[::1]:8080", "path": "a:b"}, 2.5),
        ("c,src=10.0.0.1:8080:3|c|@0.5", "c_total", {"src": "10.0.0.1:8080"}, 6),
        ("c,src=10.0.0.1:8080:3|c|#env:prod", "c_total", {"src": "10.0.0.1:8080", "env": "prod"}, 3),
        ("c,src=1:2:3:4|g", "c", {"src": "1:2:3"}, 4),
        ("c,src=1:2:500|ms", "c_sum", {"src": "1:2"}, 0.5),
        ("c,src=1:2:500|ms", "c_count", {"src": "1:2"}, 1),
        ("hits#src=10.0.0.1:80,env=prod:1|c", "hits_total", {"src": "10.0.0.1:80", "env": "prod"}, 1),
        ("hits[src=10.0.0.1:80,env=prod]:1|c", "hits_total", {"src": "10.0.0.1:80", "env": "prod"}, 1),
        ("web.[env=prod]hits:1|c", "web_hits_total", {"env": "prod"}, 1),
        ("hits:1|c|#url:http://a:80/x,canary", "hits_total", {"url": "http://a:80/x", "canary": "true"}, 1),
        ("hits:1:2:3|c|#env:prod", "hits_total", {"env": "prod"}, 6),
        ("load:5:4|g|#env:prod", "load", {"env": "prod"}, 4),
        ("size:1:2:3|d", "size_sum", {}, 6),
        ("size:1:2:3|h", "size_count", {}, 3),
        ("wait:100:200|ms|@0.5", "wait_sum", {}, 0.6),
        ("users:10.0.0.1:8080|s|#env:prod", "users", {"env": "prod"}, 1),
    ],
)
def test_the_value_is_behind_the_last_colon_unless_values_are_packed(
    line: str, name: str, labels: Series, value: float, folded: Open
) -> None:
    statsd = folded()
    statsd.take(line.encode())
    assert statsd.value(name, **labels) == pytest.approx(value, abs=1e-12)
    assert statsd.rejected() == {}


@pytest.mark.parametrize(
    ("format_", "line", "shown"),
    [
        ("dogstatsd", "job:3:1|c", {"job_total": 4}),
        ("dogstatsd", "users:a:b|s", {"users": 1}),
        ("etsy_statsd", "job:3:120|ms", {"job_seconds_sum": 0.12}),
        ("etsy_statsd", "users:a:b|s", {"users": 1}),
        ("statsd", "job:3:1|c", {"job_total": 1}),
        ("statsd", "job:3:7|g", {"job": 7}),
        ("statsd", "db:main:query:250|ms", {"query_seconds_sum": 0.25}),
    ],
)
def test_a_name_with_a_colon_ends_at_the_last_one_and_a_rule_renames_it(
    format_: str, line: str, shown: dict[str, float], folded: Open, tmp_path: Path
) -> None:
    (name,) = shown
    metric = name.removesuffix("_sum").removesuffix("_total")
    path = tmp_path / "rules.toml"
    matches = ("job:3", "users:a", "db:main:query")
    path.write_text("".join(f'[[mappings]]\nmatch = "{match}"\nname = "{metric}"\n' for match in matches))
    statsd = folded(format_, catalogue=Catalogue.load([path]))
    statsd.take(line.encode())
    assert {name: statsd.value(name)} == shown


def test_etsys_bits_of_one_line_count_each(folded: Open) -> None:
    statsd = folded()
    statsd.take(b"a:1|c:2|c|@0.5:320|ms\nb:1|c:x|c\n")
    assert statsd.value("a_total") == 5
    assert statsd.value("b_total") == 1
    assert statsd.rejected() == {"type_mismatch": 1, "invalid_value": 1}


def test_lines_of_one_body_add_up_whatever_ends_them(folded: Open) -> None:
    statsd = folded()
    lines = "\ufeffhits:1|c\r\n \u200bhits:1|c\n\u00a0hits:1|c \n\thi\u200bts : 1 | c \n\n\r\nhits:1|c\0"
    statsd.take(lines.encode())
    assert statsd.value("hits_total") == 5
    assert statsd.rejected() == {}


def test_a_tags_name_has_nothing_that_nobody_sees(folded: Open) -> None:
    statsd = folded()
    statsd.take("hits:1|c|#\u200benv:prod\nhits, env=prod:1|c\nhits:1|c|#env:prod\u00a0\r\n".encode())
    assert statsd.value("hits_total", env="prod") == 3


def test_sections_that_say_nothing_of_the_value_are_left_out(folded: Open) -> None:
    statsd = folded()
    statsd.take(b"hits:1|c|c:ci-83c0|e:it-false,cn-nginx,pu-75a2|card:low\nhits:1|c|card:none\nhits:1|c|T1656581400\n")
    assert statsd.value("hits_total") == 3
    assert statsd.rejected() == {}


def test_events_and_service_checks_are_rejected_as_such(folded: Open) -> None:
    statsd = folded()
    statsd.take(b"_e{5,4}:title|text|#env:prod\n_sc|db|2|m:down\nhits:1|c\n_e{1,1}:a|b\n")
    assert statsd.rejected() == {"statsd_event": 2, "statsd_service_check": 1}
    assert statsd.value("hits_total") == 1


def test_a_body_of_events_alone_is_no_fault_of_its_publisher() -> None:
    envelope = DECODERS["statsd"](Arrival(b"_e{5,4}:title|text\n", None, None, 1000))
    assert [*envelope.parts[0].points] == []


@pytest.mark.parametrize("body", [b"", b'{"v": 1}', b"\x01\x02|", b"http://a:80/x"])
def test_a_body_without_a_line_of_statsd_is_not_an_envelope(body: bytes) -> None:
    with pytest.raises(EnvelopeError, match=r"invalid_statsd|empty_body"):
        DECODERS["statsd"](Arrival(body, None, None, 1000))


def test_a_negative_counter_is_rejected(folded: Open) -> None:
    statsd = folded()
    statsd.take(b"hits:5|c\nhits:-2|c\n")
    assert statsd.value("hits_total") == 5
    assert statsd.rejected() == {"negative_increment": 1}


# -- gauges ----------------------------------------------------------------------------------------------------------


def gauge(statsd: Folded, *bodies: str) -> float | None:
    for second, body in enumerate(bodies):
        statsd.take(body.encode(), now=NOW + second)
    return statsd.value("x")


@pytest.mark.parametrize(
    ("bodies", "value"),
    [
        (["x:-10|g"] * 3, -10),
        (["x:-10|g", "x:5|g"], 5),
        (["x:5|g", "x:-10|g"], -10),
        (["x:0|g\nx:-10|g"], -10),
        (["x:0|g\nx:-10|g"] * 2, -10),
        (["x:7|g\nx:5|g"], 5),
        (["x:-1|g\nx:-2|g"], -2),
        (["x:5|g", "x:+3|g"], 8),
        (["x:5|g\nx:+3|g\nx:-1|g"], 7),
        (["x:+5|g", "x:-2|g", "x:+1|g"], 4),
        (["x:+5|g\nx:-2|g"], 3),
        (["x:-0.5|g", "x:1e3|g"], 1000),
    ],
)
def test_a_gauge_of_an_unknown_dialect_that_has_been_set_stays_one_that_is_set(
    bodies: list[str], value: float, folded: Open
) -> None:
    statsd = folded()
    assert gauge(statsd, *bodies) == value
    assert statsd.rejected() == {}


@pytest.mark.parametrize(
    ("bodies", "value"),
    [(["x:-10|g"] * 3, -10), (["x:5|g", "x:-10|g"], -10), (["x:5|g", "x:+3|g"], 3), (["x:+5|g", "x:-2|g"], -2)],
)
def test_datadogs_gauges_are_set_whatever_their_sign(bodies: list[str], value: float, folded: Open) -> None:
    assert gauge(folded("dogstatsd"), *bodies) == value


@pytest.mark.parametrize("section", ["#", "c:ci-1", "e:it-false"])
def test_a_section_of_datadogs_says_that_a_gauge_is_set(section: str, folded: Open) -> None:
    statsd = folded()
    assert gauge(statsd, f"x:+5|g|{section}", f"x:-2|g|{section}") == -2


@pytest.mark.parametrize(
    ("bodies", "value"),
    [
        (["x:-10|g"] * 3, -30),
        (["x:0|g\nx:-10|g"] * 2, -10),
        (["x:70|g", "x:+3|g", "x:-10|g"], 63),
        (["x:70|g\nx:-10|g\nx:-10|g"], 50),
        (["x:0|g\nx:-10|g", "x:-1|g"], -11),
    ],
)
def test_etsys_gauges_with_a_sign_are_moved(bodies: list[str], value: float, folded: Open) -> None:
    statsd = folded("etsy_statsd")
    assert gauge(statsd, *bodies) == value
    assert statsd.rejected() == {}


def test_a_gauge_that_the_catalogue_adds_up_takes_both_signs_of_all_sources(tmp_path: Path, folded: Open) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text(ACCUMULATING)
    statsd = folded(catalogue=Catalogue.load([path]))
    statsd.take(b"inflight:+3|g\ninflight:-1|g", headers={"source": "a"})
    statsd.take(b"inflight:-1|g", headers={"source": "b"})
    assert statsd.value("inflight") == 1
    assert statsd.rejected() == {}


def test_each_source_moves_its_own_reading(folded: Open) -> None:
    statsd = folded("etsy_statsd")
    statsd.take(b"x:10|g", headers={"source": "a"})
    statsd.take(b"x:100|g", headers={"source": "b"}, now=NOW + 1)
    statsd.take(b"x:-1|g", headers={"source": "a"}, now=NOW + 2)
    assert statsd.value("x") == 9


def test_a_gauge_moved_beyond_all_floats_stays_at_the_largest(folded: Open) -> None:
    statsd = folded("etsy_statsd")
    assert gauge(statsd, "x:1e308|g", "x:+1.7e308|g", "x:+1e308|g") == pytest.approx(1.7976931348623157e308)


def test_a_moved_gauge_is_in_its_batch(folded: Open) -> None:
    statsd = folded("etsy_statsd")
    statsd.take(b"x:5|g")
    statsd.lose(b"x:+100|g")
    statsd.take(b"x:+1|g", now=NOW + 1)
    assert statsd.value("x") == 6


SIZE = (1 << 20) - 100


@pytest.mark.parametrize(
    "body",
    [
        b"a" * SIZE,
        b":" * SIZE,
        b"|" * SIZE,
        b"a:1|q" + b":1|q" * (SIZE // 4 - 2) + b"|",
        b"a:" + b"1:" * (SIZE // 2 - 2) + b"x|ms|",
        b"a[" + b"," * (SIZE - 10) + b":x|c",
        b"a:1|c|#" + b"," * (SIZE - 10) + b"|@x",
        b"a:" + b"1" * SIZE + b"x|c",
    ],
    ids=["letters", "colons", "bars", "bits", "packed", "brackets", "tags", "digits"],
)
def test_a_line_as_long_as_a_body_is_known_in_one_pass_to_be_none(body: bytes) -> None:
    with pytest.raises(EnvelopeError, match="invalid_statsd"):
        DECODERS["statsd"](Arrival(body, None, None, 1 << 20))
