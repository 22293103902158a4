"""busmon: exact, crash-proof telemetry from RabbitMQ to Prometheus.

The public surface of the import is `Telemetry`, the agent's side; everything else is reached by the `busmon` command.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from busmon.publish import Telemetry

__all__ = ["Telemetry", "__version__"]
__version__ = "0.3.0.dev0"


def __getattr__(name: str) -> Any:
    """Import `Telemetry` when it is first asked for, so that the command line doesn't pay for it."""
    if name == "Telemetry":
        from busmon.publish import Telemetry  # noqa: PLC0415

        return Telemetry
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
