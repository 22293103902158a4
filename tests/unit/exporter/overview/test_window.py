import math
from collections.abc import Sequence

import pytest

from busmon.exporter.overview.window import (
    HISTORY_SECONDS,
    HISTORY_STEP_SECONDS,
    RATE_SPAN_SECONDS,
    Figures,
    History,
    Latency,
    Rates,
    Window,
)

INF = math.inf

QUEUES = ("telemetry.fold.0", "telemetry.fold.1")


def figures(at: float, envelopes: float = 0.0, *latency: Sequence[tuple[float, float]]) -> Figures:
    return Figures(
        at,
        envelopes,
        samples=envelopes * 5,
        queues=QUEUES,
        queued=3,
        by_shard={"0": envelopes / 4, "1": envelopes * 3 / 4},
        latency=dict(zip([*QUEUES, "an agent's"], latency, strict=False)),
        quarantined={"invalid_json": envelopes / 10},
    )


def window(*collections: Figures) -> Window:
    fed = Window()
    for collection in collections:
        fed.add(collection)
    return fed


def test_a_rate_is_growth_a_second_over_the_last_few_seconds() -> None:
    fed = window(*(figures(at, envelopes=at * 100) for at in (1.0, 2.0, 3.0, 4.0)))
    assert fed.rates() == Rates(envelopes=100, samples=500, refused=10)
    assert [fed.rate_of(0), fed.rate_of(1), fed.rate_of(7)] == [25, 75, 0]


def test_growth_before_the_span_no_longer_counts() -> None:
    fed = window(figures(0, 0), figures(1, 1_000_000), figures(1 + RATE_SPAN_SECONDS + 1, 1_000_600))
    assert fed.rates() == Rates(None, None, None)
    fed.add(figures(8, 1_000_700))
    assert fed.rates().envelopes == 100


def test_one_collection_tells_no_rate() -> None:
    fed = window(figures(1, 100))
    assert fed.rates() == Rates()
    assert fed.rate_of(0) is None
    assert fed.latency(QUEUES) == Latency()
    assert fed.history() == History()


def test_files_begun_anew_count_from_nothing() -> None:
    assert window(figures(1, 5000), figures(2, 80)).rates() == Rates(envelopes=80, samples=400, refused=8)


def test_history_goes_back_for_minutes_in_points_some_seconds_apart() -> None:
    history = window(*(figures(float(at), envelopes=at * 10) for at in range(2000))).history()
    points = int(HISTORY_SECONDS / HISTORY_STEP_SECONDS)
    assert history.envelopes == [10.0] * len(history.seconds)
    assert points <= len(history.seconds) <= points + 1
    assert history.seconds[0] >= -HISTORY_SECONDS - 1
    assert history.queued[-1] == 3


def test_history_is_fed_by_scrapes_far_apart_too() -> None:
    history = window(*(figures(at * 15.0, at * 150) for at in range(4))).history()
    assert (history.seconds, history.envelopes) == ([-30.0, -15.0, 0.0], [10.0] * 3)


def test_history_has_a_gap_where_nothing_was_consumed() -> None:
    counted = [(0.1, 10.0), (INF, 10.0)]
    fed = window(figures(0, 0, [(0.1, 0.0), (INF, 0.0)]), figures(2, 1, counted), figures(4, 1, counted))
    assert fed.history().p99 == [pytest.approx(0.099), None]


def test_figures_are_due_once_they_are_old() -> None:
    fed = Window()
    assert fed.due(0.0, 1.0)
    fed.add(figures(10))
    assert not fed.due(10.9, 1.0)
    assert fed.due(11.0, 1.0)


def test_latency_is_of_the_span_not_of_all_time() -> None:
    slow = [(0.1, 0.0), (1.0, 1000.0), (INF, 1000.0)]
    then_fast = [(0.1, 10.0), (1.0, 1010.0), (INF, 1010.0)]
    latency = window(figures(1, 0, slow), figures(2, 0, then_fast)).latency(QUEUES)
    assert [latency.p50, latency.p99] == pytest.approx([0.05, 0.099])


def test_latency_tells_up_to_where_it_is_only_known_to_be_in_the_first_bucket() -> None:
    counted = [(0.01, 10.0), (0.025, 10.0), (INF, 10.0)]
    latency = window(figures(1), figures(2, 10, counted)).latency(QUEUES)
    assert latency.least == 0.01
    assert latency.p99 is not None
    assert latency.p99 < latency.least


def test_latency_is_of_the_shards_queues_together_and_of_no_others() -> None:
    nothing, fast, slow = (
        [(0.1, 0.0), (1.0, 0.0), (INF, 0.0)],
        [(0.1, 50.0), (1.0, 50.0), (INF, 50.0)],
        [(0.1, 0.0), (1.0, 50.0), (INF, 50.0)],
    )
    fed = window(figures(1, 0, nothing, nothing, nothing), figures(2, 0, fast, slow, slow))
    assert fed.latency(QUEUES).p50 == pytest.approx(0.1)
    assert fed.latency(QUEUES[:1]).p50 == pytest.approx(0.05)
    assert fed.latency(["a queue that isn't there"]) == Latency(None, None)
