"""The causes of a loss are listed once: the docs explain each, and neither docs nor rules name another."""

import re
from pathlib import Path

from busmon.bus.connect.causes import LossCause

ROOT = Path(__file__).parents[4]
TEXTS = [
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("busmon/rules/**/*.toml"),
    *ROOT.glob("busmon/dashboards/*.py"),
]


def test_health_md_explains_each_cause_and_no_other() -> None:
    text = (ROOT / "docs/health.md").read_text()
    section = text.partition("\n## Loss causes\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [str(cause) for cause in LossCause]


def test_what_selects_reconnects_by_cause_names_one_that_exists() -> None:
    named = {
        cause: path.name
        for path in TEXTS
        for cause in re.findall(r'busmon_reconnects_total\{[^}]*cause=~?"(\w+)"', path.read_text())
    }
    assert "channel_silent" in named
    assert {cause: name for cause, name in named.items() if cause not in {*LossCause}} == {}
