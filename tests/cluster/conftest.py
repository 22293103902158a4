"""One cluster for all faults, and the table of what they cost at the end."""

from collections.abc import Iterator

import pytest

from tests.cluster import trial
from tests.cluster.network import obstacle
from tests.cluster.node import TICK_SECONDS
from tests.cluster.trial import Measured, Stand

_rows: list[Measured] = []
_versions: list[str] = []


@pytest.fixture(scope="session")
def rows() -> list[Measured]:
    return _rows


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    if why := obstacle():
        pytest.skip(why)
    with trial.stand(tmp_path_factory.mktemp("cluster")) as found:
        _versions.append(found.version)
        yield found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, as docs/guarantees.md has it."""
    if not _rows:
        return
    write = terminalreporter.write_line
    write("")
    write(f"RabbitMQ {_versions[0]}, three nodes, net_ticktime {TICK_SECONDS} s; {len(_rows)} faults")
    write("| it is | its role | gap in counting, s | longest gap of an agent, s | published | counted |")
    write("|---|---|---|---|---|---|")
    for row in _rows:
        counted = " and ".join(f"{sum(tasks.values()):,.0f}" for tasks in row.counted)
        write(
            f"| {row.case.fault.name}{'*' if row.is_repaired else ''} | {row.case.victim} | {row.total_gap:.1f} | "
            f"{row.worst_gap:.1f} | {sum(row.published.values()):,.0f} | {counted} |"
        )
    usual = max(row.usual_gap for row in _rows)
    if any(row.is_repaired for row in _rows):
        write("* The node did not come back by itself and was restarted.")
    write(f"Before each fault the longest gap of an agent was up to {usual:.1f} s.")
