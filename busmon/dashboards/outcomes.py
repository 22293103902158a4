"""Finished tasks by how they ended: a panel that the dashboards of agents and of tasks have."""

from busmon.dashboards.panels import HALF, Aim, Lines
from busmon.dashboards.promql import FAILED, PROCESSED, chosen


def outcomes(title: str, more: str, span: int = HALF) -> Lines:
    """Successes and failures a minute, of the chosen agents."""
    failures = chosen(*FAILED)
    return Lines(
        title,
        Aim("Finished tasks by how they ended. Aim for failures too thin to see.", more=more),
        {"success": f"60 * ({chosen(*PROCESSED)} - {failures})", "failure": f"60 * {failures}"},
        "tasks/min",
        stacked=True,
        colours={"success": "green", "failure": "red"},
        span=span,
    )
