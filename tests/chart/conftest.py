from pathlib import Path

import pytest

from tests.chart.chart import obstacle


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if why := obstacle():
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=why))
