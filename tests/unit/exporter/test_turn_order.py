"""The order of turns: by the time that each address took."""

import pytest

from busmon.exporter.turn_order import _REMEMBERED, TurnOrder


@pytest.fixture
def order() -> TurnOrder:
    order = TurnOrder()
    for address in "ab":
        order.enter(address)
    return order


def test_the_next_is_the_address_that_took_least_time(order: TurnOrder) -> None:
    assert order.choose("ab") == "a"
    order.charge("a", 1.0)
    assert order.choose("ab") == "b"
    order.charge("b", 2.0)
    assert order.sort("ba") == ["a", "b"]


def test_one_that_comes_later_begins_with_the_least_time_and_so_is_soon_next(order: TurnOrder) -> None:
    order.charge("a", 5.0)
    order.charge("b", 7.0)
    order.give("a")
    order.charge("a", 1.0)
    order.enter("late")
    assert order.sort(["a", "b", "late"]) == ["late", "a", "b"]
    order.charge("late", 1.5)
    assert order.sort(["a", "b", "late"]) == ["a", "late", "b"]


def test_nobody_saves_up_turns_by_not_taking_them(order: TurnOrder) -> None:
    order.charge("a", 5.0)
    order.give("a")
    order.wait("b")
    order.charge("b", 1.0)
    assert order.choose("ba") == "a"


def test_what_an_address_took_is_remembered_while_others_want_something(order: TurnOrder) -> None:
    order.charge("a", 5.0)
    order.leave("a")
    order.enter("a")
    assert order.choose("ab") == "b"
    for address in "ab":
        order.leave(address)
    for address in "ab":
        order.enter(address)
    assert order.choose("ab") == "a"


def test_an_address_that_no_longer_counts_comes_first(order: TurnOrder) -> None:
    order.charge("a", 5.0)
    order.leave("a")
    assert order.choose("ba") == "a"


def test_addresses_without_end_are_not_all_remembered(order: TurnOrder) -> None:
    for number in range(10_000):
        order.enter(f"passer-by {number}")
        order.charge(f"passer-by {number}", 1.0)
        order.leave(f"passer-by {number}")
    assert len(order._taken_seconds) <= 2 + _REMEMBERED + 1
    assert order.sort(["b", "a"]) == ["b", "a"]
