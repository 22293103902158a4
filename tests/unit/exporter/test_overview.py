import json
import math
from collections.abc import Sequence

import pytest

from busmon.exporter.overview import (
    HISTORY_SECONDS,
    Figures,
    Latency,
    Overview,
    Rates,
    Window,
    growth,
    overview,
    quantile,
)
from busmon.exporter.rollcall import call

from .fleet import NOW, healthy

INF = math.inf


QUEUES = ("telemetry.fold.0", "telemetry.fold.1")


def figures(at: float, envelopes: float = 0.0, *latency: Sequence[tuple[float, float]]) -> Figures:
    return Figures(
        at,
        envelopes,
        samples=envelopes * 5,
        deduplicated=0,
        publisher_dropped=0,
        latency=dict(zip([*QUEUES, "an agent's"], latency, strict=False)),
        rejected={},
        quarantined={"invalid_json": 2},
        series=7,
    )


def window(*collections: Figures) -> Window:
    fed = Window()
    for collection in collections:
        fed.add(collection)
    return fed


def test_a_rate_is_growth_a_second_over_the_last_few_seconds() -> None:
    fed = window(*(figures(at, envelopes=at * 100) for at in (1.0, 2.0, 3.0, 4.0)))
    assert fed.rates() == Rates(envelopes=100, samples=500)


def test_growth_before_the_span_no_longer_counts() -> None:
    fed = window(figures(0, 0), figures(1, 1_000_000), figures(7, 1_000_600))
    assert fed.rates() == Rates(None, None)
    fed.add(figures(8, 1_000_700))
    assert fed.rates() == Rates(envelopes=100, samples=500)


def test_one_collection_tells_no_rate() -> None:
    fed = window(figures(1, 100))
    assert fed.rates() == Rates(None, None)
    assert fed.latency(QUEUES) == Latency(None, None)
    assert fed.history() == []


def test_files_begun_anew_count_from_nothing() -> None:
    assert window(figures(1, 5000), figures(2, 80)).rates() == Rates(envelopes=80, samples=400)


def test_history_keeps_a_minute() -> None:
    fed = window(*(figures(float(at), envelopes=at * 10) for at in range(200)))
    assert fed.history() == [10.0] * (int(HISTORY_SECONDS) + 1)


def test_figures_are_due_once_they_are_old() -> None:
    fed = Window()
    assert fed.due(0.0, 1.0)
    fed.add(figures(10))
    assert not fed.due(10.9, 1.0)
    assert fed.due(11.0, 1.0)


@pytest.mark.parametrize(
    ("q", "buckets", "expected"),
    [
        (0.5, [(1.0, 10), (2.0, 20), (INF, 20)], 1.0),
        (0.75, [(1.0, 10), (2.0, 20), (INF, 20)], 1.5),
        (0.25, [(1.0, 10), (2.0, 20), (INF, 20)], 0.5),
        (0.99, [(1.0, 0), (2.0, 100), (INF, 100)], 1.99),
        (0.99, [(1.0, 10), (2.0, 10), (INF, 20)], 2.0),
        (0.5, [(1.0, 0), (2.0, 0), (INF, 3)], 2.0),
        (0.5, [(1.0, 0), (INF, 0)], None),
        (0.5, [], None),
    ],
)
def test_a_quantile_is_what_histogram_quantile_gives(
    q: float, buckets: Sequence[tuple[float, float]], expected: float | None
) -> None:
    assert quantile(q, buckets) == (None if expected is None else pytest.approx(expected))


def test_latency_is_of_the_span_not_of_all_time() -> None:
    slow = [(0.1, 0.0), (1.0, 1000.0), (INF, 1000.0)]
    then_fast = [(0.1, 10.0), (1.0, 1010.0), (INF, 1010.0)]
    latency = window(figures(1, 0, slow), figures(2, 0, then_fast)).latency(QUEUES)
    assert [latency.p50, latency.p99] == pytest.approx([0.05, 0.099])


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


def test_growth_of_a_histogram_begun_anew_is_what_it_holds() -> None:
    assert growth([(1.0, 50), (INF, 60)], [(1.0, 2), (INF, 3)]) == [(1.0, 2), (INF, 3)]


def test_growth_of_a_histogram_that_just_appeared_is_what_it_holds() -> None:
    assert growth([], [(1.0, 2), (INF, 3)]) == [(1.0, 2), (INF, 3)]


def test_an_overview_survives_its_journey_as_json() -> None:
    fed = window(figures(1, 100, [(0.1, 1), (INF, 2)]), figures(2, 220, [(0.1, 5), (INF, 7)]))
    model = overview(fed, call(healthy(), NOW), "http://127.0.0.1:9797/metrics", "1.2.3", {"x.db": "it is empty"})
    assert Overview.from_json(json.loads(json.dumps(model.as_json()))) == model
    assert (model.alive, model.ready, model.rates.envelopes) == ("alive", "ready", 120)
