"""Every state that docs, rules and dashboards select is one that a shard can be in."""

import re
from pathlib import Path

from busmon.exporter.readiness.rollcall import STATES

ROOT = Path(__file__).parents[2]
PLACES = (*ROOT.glob("docs/**/*.md"), *ROOT.glob("busmon/**/*.toml"), *ROOT.glob("busmon/dashboards/*.py"))
SELECTOR = re.compile(r"busmon_shard_state\{[^}]*state=~?\"([^\"]+)\"")


def test_every_state_that_is_selected_exists() -> None:
    selected = {state for path in PLACES for found in SELECTOR.findall(path.read_text()) for state in found.split("|")}
    assert selected >= {"consuming", "failing"}
    assert selected <= {*map(str, STATES)}


def test_the_states_are_those_of_the_metric() -> None:
    expected = "opening connecting consuming standby blocked cancelled closed missing failing draining silent"
    assert [*map(str, STATES)] == expected.split()
