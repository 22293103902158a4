import pytest

from busmon.simulator.weather import BASE_FAILING, INCIDENTS, Conditions, Weather


@pytest.mark.parametrize("incident", INCIDENTS)
def test_an_incident_shows_between_its_onset_and_its_end_only(incident: str) -> None:
    weather = Weather(incident, after_seconds=100, lasting_seconds=50)

    assert weather.at(99) == Conditions(weather.at(99).load)
    assert weather.at(149) != Conditions(weather.at(149).load)
    assert weather.at(150) == Conditions(weather.at(150).load)


def test_strength_scales_what_happens() -> None:
    def failing(strength: float) -> float:
        return Weather("high-error-rate", 0, strength=strength).at(1).failing

    assert failing(1) - BASE_FAILING == pytest.approx(10 * (failing(0.1) - BASE_FAILING))


def test_a_day_begins_at_its_peak_and_returns_to_it() -> None:
    weather = Weather(day_seconds=1000)

    assert [round(weather.at(seconds).load, 3) for seconds in (0, 250, 500, 1000)] == [1, 0.7, 0.4, 1]


def test_agents_are_deployed_in_turn_and_not_at_their_start() -> None:
    weather = Weather(deploy_seconds=100)
    moments = [[second for second in range(250) if weather.deploys(second - 1, second, number)] for number in range(3)]

    assert moments == [[100, 200], [107, 207], [114, 214]]


def test_nobody_is_deployed_where_it_is_off() -> None:
    assert not any(Weather(deploy_seconds=0).deploys(second - 1, second, 1) for second in range(5000))
