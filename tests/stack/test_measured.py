import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("alerts_measured")


def test_every_alert_is_measured_in_bulk_or_there_is_a_reason(measured: ModuleType) -> None:
    in_bulk, reasons = measured.in_bulk(), set(measured.IN_RULE_TESTS_ONLY)

    assert in_bulk | reasons == measured.alerts()
    assert in_bulk & reasons == set()


def test_every_alert_is_measured_live_or_there_is_a_reason(measured: ModuleType) -> None:
    live, reasons = set(measured.SEVERAL), set(measured.NOT_LIVE)

    assert live | reasons == measured.alerts()
    assert live & reasons == set()


def test_the_page_says_what_measures_each_alert(measured: ModuleType) -> None:
    text = measured.PAGE.read_text()

    assert text == measured.page(text)
    assert "nobody said why" not in text
