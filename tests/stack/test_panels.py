import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest

from busmon.dashboards import BOARDS
from busmon.dashboards.panels import Panel
from busmon.demo.native import NativeStack
from busmon.settings import Settings

PATIENCE_SECONDS = 90.0
RANGE_SECONDS = 30

# Series that only something going wrong, or an end, brings about; that their panels' other queries have data is tested.
WITHOUT_DATA = {
    ("Starts, stops and restarts", "stopped"): "no agent of the simulation stops in the time of the test",
    ("Workers replaced, connections opened again", "worker {{worker}}: {{cause}}"): "no connection is lost",
    ("Alerts firing", ""): "no alert fires while all is well",
}


def queries() -> Iterator[tuple[Panel, str, str]]:
    for board in BOARDS:
        for row in board.rows.values():
            for panel in row:
                for legend, query in panel.queries.items():
                    yield panel, legend, query


class Prometheus:
    def __init__(self, address: str) -> None:
        self._address = address

    def series(self, panel: Panel, query: str) -> int:
        filled = query.replace("$__rate_interval", "10s").replace("$__range", f"{RANGE_SECONDS}s")
        filled = filled.replace("$job", ".+").replace("$agent", ".+")
        now = time.time()
        if panel.instant:
            return self._ask("query", query=filled, time=str(now))
        return self._ask("query_range", query=filled, start=str(now - RANGE_SECONDS), end=str(now), step="5")

    def _ask(self, path: str, **parameters: str) -> int:
        url = f"{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - of this machine
            return len(json.loads(answer.read())["data"]["result"])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeStack]:
    directory = tmp_path_factory.mktemp("stack")
    agents = ("--agents", "6", "--rate", "40")
    with NativeStack(directory, Settings(), lambda _: None, agents, hasten="1s") as running:
        yield running


def test_every_panels_query_returns_data_of_a_real_fleet(stack: NativeStack) -> None:
    prometheus = Prometheus(stack.prometheus)
    asked = [row for row in queries() if (row[0].title, row[1]) not in WITHOUT_DATA]
    deadline = time.monotonic() + PATIENCE_SECONDS

    while empty := [(panel, legend, query) for panel, legend, query in asked if not prometheus.series(panel, query)]:
        assert time.monotonic() < deadline, [(panel.title, legend, query) for panel, legend, query in empty]
        asked = empty
        time.sleep(0.5)


def test_what_is_said_to_have_no_data_is_asked_for() -> None:
    assert set(WITHOUT_DATA) <= {(panel.title, legend) for panel, legend, _ in queries()}
