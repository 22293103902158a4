from busmon.rules import Alert, Group, Recording
from tests.stack.reach import levels, only, reach

RATE = Recording("agent:a:rate1m", "rate(a_total[1m])")
SUM = Recording("fleet:a:rate1m", "sum without (agent) (agent:a:rate1m)")
OTHER = Recording("fleet:b:rate1m", "rate(b_total[1m])")
MANY = Alert("Many", "fleet:a:rate1m > 1")
GROUPS = [Group("recorded", "5s", (SUM, RATE, OTHER)), Group("alerts", "5s", (MANY,))]


def test_an_alert_reaches_what_it_is_made_of_and_nothing_else() -> None:
    assert reach(GROUPS, ["Many"]) == {"Many", "fleet:a:rate1m", "agent:a:rate1m"}


def test_what_is_left_out_leaves_no_empty_group() -> None:
    assert only(GROUPS, {"fleet:a:rate1m"}) == [Group("recorded", "5s", (SUM,))]


def test_a_recording_comes_after_those_that_it_needs() -> None:
    steps = levels(GROUPS, ["Many"])

    assert [[rule.name for group in step for rule in group.rules] for step in steps] == [
        ["agent:a:rate1m"],
        ["fleet:a:rate1m"],
    ]
