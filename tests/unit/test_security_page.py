"""docs/security.md says what is so: its file is accepted, its keys are the code's, and its tests exist."""

import re
from pathlib import Path

from busmon.exporter.access import web_file

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "security.md").read_text()


def test_each_test_that_the_threat_table_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    defined = {name for path in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    assert len(named) > 15
    assert named - defined == set()


def test_the_file_that_the_page_begins_with_is_accepted() -> None:
    text = PAGE.split("```yaml\n", 2)[1].split("```", 1)[0]
    found = web_file.parse(text.encode(), Path("web.yml"))
    assert found.tls
    assert list(found.users) == ["prometheus"]


def test_what_may_be_chosen_stands_on_the_page() -> None:
    for choice in (*web_file.CLIENT_AUTH, *web_file.VERSIONS, *web_file.OPENABLE):
        assert f"`{choice}`" in PAGE
