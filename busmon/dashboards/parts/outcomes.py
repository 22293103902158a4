"""Finished tasks by how they ended: a panel that the dashboards of agents and of tasks have."""

from busmon.dashboards.parts.panels import HALF, Aim, Lines
from busmon.dashboards.parts.promql import FAILED, PROCESSED, choose


def outcomes(title: str, more: str, span: int = HALF) -> Lines:
    """Draw successes and failures per minute of the chosen agents."""
    failures = choose(*FAILED)
    return Lines(
        title,
        Aim("Finished tasks by result. Aim for failures too few to see.", more=more),
        {"success": f"60 * ({choose(*PROCESSED)} - {failures})", "failure": f"60 * {failures}"},
        "tasks/min",
        stacked=True,
        colours={"success": "green", "failure": "red"},
        span=span,
    )
