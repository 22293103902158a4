"""The extras of the package: the modules that each one brings, and the error that names a missing extra.

`pip install busmon-telemetry` brings what an agent needs to publish. Everything else is an extra, so that a program
that publishes shares no pin with the fleet's HTTP server. Looks modules up without importing them; any thread.
"""

from collections.abc import Mapping
from importlib.util import find_spec

from busmon.errors import MissingExtraError

MODULES: Mapping[str, tuple[str, ...]] = {
    "aio-pika": ("aio_pika",),
    "celery": ("celery",),
    "dashboards": ("grafana_foundation_sdk",),
    "dramatiq": ("dramatiq",),
    "faststream": ("faststream", "aio_pika"),
    "fleet": (
        "bcrypt",
        "cryptography",
        "h11",
        "isal",
        "prometheus_client",
        "pybreaker",
        "rich",
        "starlette",
        "structlog",
        "uvicorn",
        "yaml",
    ),
    "otlp": ("google.protobuf", "opentelemetry.proto"),
    "postgres": ("asyncpg",),
    "process": ("psutil",),
    "redis": ("redis",),
    "taskiq": ("taskiq",),
}
"""The modules of each extra, by the extra's name in pyproject.toml."""


def is_installed(module: str) -> bool:
    """Check that a module can be imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


def require(extra: str, purpose: str) -> None:
    """Check that an extra is installed.

    Args:
        extra: its name.
        purpose: what needs it, as the subject of the error's line.

    Raises:
        MissingExtraError: a module of the extra is missing.
    """
    missing = [module for module in MODULES[extra] if not is_installed(module)]
    if missing:
        raise MissingExtraError(f"{purpose} needs {missing[0]}, which isn't installed; run: {command(extra)}")


def command(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'busmon-telemetry[{extra}]'"
