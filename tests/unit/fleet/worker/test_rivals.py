from busmon.fleet.worker.rivals import LASTED_BEATS, Rivals


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


def test_a_consumer_that_a_lost_connection_may_have_left_is_no_other_fleet() -> None:
    rivals = heard(1)
    for _ in range(LASTED_BEATS + 1):
        rivals.note(2, losses=1)
    assert (rivals.obstacle, rivals.are_possible) == ("", True)
    for _ in range(LASTED_BEATS):
        rivals.note(3, losses=1)
    assert rivals.obstacle
    rivals.note(1, losses=1)
    assert (rivals.obstacle, rivals.are_possible) == ("", False)
    for _ in range(LASTED_BEATS):
        rivals.note(2, losses=1)
    assert rivals.obstacle


def test_a_permanent_rival_stays_found_after_each_loss_of_a_connection() -> None:
    rivals = heard(1, *[2] * LASTED_BEATS)
    for losses in range(1, 5):
        rivals.note(None, losses)
        assert not rivals.obstacle
        rivals.note(2, losses)
        assert rivals.obstacle
    rivals.note(1, 4)
    assert not rivals.obstacle


def test_a_rival_that_was_met_after_losses_is_found() -> None:
    """Each fleet may have lost its connection before the other came, and its own consumer was left behind by none."""
    rivals = Rivals("q")
    rivals.note(1, losses=3)
    for _ in range(LASTED_BEATS):
        rivals.note(2, losses=3)
    assert rivals.obstacle
    for _ in range(LASTED_BEATS):  # a node is down: its consumer counts until the node is back
        rivals.note(3, losses=4)
    assert (rivals.obstacle != "", rivals._left_behind) == (True, 1)


def test_more_than_one_consumer_is_a_possible_rival_at_once() -> None:
    assert heard(2).are_possible
    assert not heard(2, 1).are_possible
    assert not heard(2, None).are_possible
