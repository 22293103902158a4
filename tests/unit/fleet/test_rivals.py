from busmon.fleet.rivals import LASTED_BEATS, Rivals


def heard(*consumers: int | None) -> Rivals:
    rivals = Rivals("telemetry.quarantine.dropped")
    for number in consumers:
        rivals.note(number)
    return rivals


def test_a_second_fleet_is_named_once_it_has_lasted() -> None:
    assert not heard(*[2] * (LASTED_BEATS - 1)).obstacle
    assert heard(*[2] * LASTED_BEATS).obstacle.startswith("another fleet consumes from 'telemetry.quarantine.dropped'")


def test_a_fleet_that_follows_another_isnt_taken_for_a_second() -> None:
    assert not heard(*[2] * (LASTED_BEATS - 1), 1, *[2] * (LASTED_BEATS - 1)).obstacle


def test_what_isnt_known_names_nobody() -> None:
    assert not heard(*[2] * LASTED_BEATS, None).obstacle
    assert not heard(*[1, 0, None] * LASTED_BEATS).obstacle
