"""Grafana's dashboards as code: panels as data, coloured by the alerts' thresholds, written as the JSON Grafana takes.

They stand in the package, beside the rules, so that who changes a threshold builds the alerts and the dashboards anew
from the same number. Pure: files are read and written in `busmon.rules` and by the command.
"""

from busmon.dashboards import agents, business, errors, pipeline, system, tasks
from busmon.dashboards.board import Board, written
from busmon.rules import Thresholds

__all__ = ["BOARDS", "Board", "build"]

BOARDS = (system.BOARD, agents.BOARD, tasks.BOARD, errors.BOARD, business.BOARD, pipeline.BOARD)
"""From the ground up, then the pipeline itself."""


def build(thresholds: Thresholds) -> dict[str, str]:
    """The JSON of each dashboard, by its file's name."""
    return {f"{board.uid.removeprefix('busmon-')}.json": written(board, thresholds) for board in BOARDS}
