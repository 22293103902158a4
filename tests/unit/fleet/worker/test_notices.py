"""Metrics that aren't taken up are named once for each publisher, and a flood of publishers leaves room for others."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from busmon.catalogue.catalogue import Catalogue
from busmon.errors import AdoptionError
from busmon.fleet.worker.notices import FamilyNotices
from busmon.fleet.worker.paced_log import LINES, PERIOD_SECONDS, PacedLog
from busmon.registry.admission.families import MAX_NAMED, Families
from busmon.registry.admission.principal import Principal


class Refusing:
    """Families of which none is taken up, and what is logged of them."""

    def __init__(self, directory: Path) -> None:
        self.now = 1000.0
        self.families = Families(directory, Catalogue.load(()), max_adopted=0)
        self.notices = FamilyNotices(self.families, PacedLog(lambda: self.now))

    def refuse(self, *principals: Principal) -> list[Any]:
        """Refuse a metric of each principal, and return the lines of the log."""
        for principal in principals:
            with pytest.raises(AdoptionError):
                self.families.require_share("junk", principal)
        with capture_logs() as lines:
            self.notices.name_unadopted()
        return [(line["user"], line["agent"]) for line in lines]


@pytest.fixture
def refusing(tmp_path: Path) -> Refusing:
    return Refusing(tmp_path)


def test_a_publisher_is_named_once(refusing: Refusing) -> None:
    assert refusing.refuse(Principal("ann", "a")) == [("ann", "a")]
    assert refusing.refuse(Principal("ann", "a"), Principal("ann", "b")) == [("ann", "b")]
    assert refusing.refuse(Principal("", "c")) == [(None, "c")]


def test_a_flood_of_a_users_agents_is_a_few_lines_and_hides_no_other_user(refusing: Refusing) -> None:
    flood = [Principal("evil", f"agent-{number}") for number in range(MAX_NAMED)]
    assert len(refusing.refuse(*flood)) == LINES
    assert refusing.refuse(Principal("ann", "a")) == [("ann", "a")]


def test_publishers_are_named_again_after_more_than_are_remembered(refusing: Refusing) -> None:
    for number in range(0, MAX_NAMED, LINES):
        refusing.refuse(*(Principal("evil", f"agent-{number + each}") for each in range(LINES)))
        refusing.now += PERIOD_SECONDS
    assert refusing.refuse(Principal("ann", "a")) == [("ann", "a")]
    assert refusing.refuse(Principal("evil", "agent-0")) == [("evil", "agent-0")]
