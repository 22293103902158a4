"""Grafana's dashboards as code: panels as data, coloured by the alerts' thresholds, written as the JSON Grafana takes.

The package holds them with the rules, so that a changed threshold reaches alerts and dashboards in one build.
Pure: files are read and written in `busmon.rules` and by the command.
"""

from busmon.dashboards.boards import agents, business, celery, errors, pipeline, system, tasks
from busmon.dashboards.parts.board import Board, to_json
from busmon.rules import Thresholds

__all__ = ["BOARDS", "Board", "build"]

BOARDS = (system.BOARD, agents.BOARD, tasks.BOARD, celery.BOARD, errors.BOARD, business.BOARD, pipeline.BOARD)
"""From the ground up, then the pipeline itself."""


def build(thresholds: Thresholds) -> dict[str, str]:
    """Build the JSON of each dashboard, by its file's name."""
    return {f"{board.uid.removeprefix('busmon-')}.json": to_json(board, thresholds) for board in BOARDS}
