"""The checks that the settings ask for. A wrong setting or a missing driver is an error before any is made."""

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from busmon import extras
from busmon.errors import SettingsError
from busmon.exporter.checks.check import Check
from busmon.exporter.checks.http import HttpCheck
from busmon.exporter.checks.resources import Resources
from busmon.exporter.checks.tcp import TcpCheck
from busmon.settings import Settings

if TYPE_CHECKING:
    from busmon.exporter.checks.watch import Watch


def watches(settings: Settings) -> list["Watch"]:
    """Make a watch for each dependency, in the order of the documents.

    Raises:
        MissingExtraError: a driver is missing.
        SettingsError: a dependency is called optional that isn't there.
    """
    checks = dict(_checks(settings))
    optional = frozenset(settings.optional_dependencies)
    if unknown := sorted(optional - checks.keys()):
        known = f"expected some of {', '.join(checks)}" if checks else "no dependency is configured"
        origin = settings.origin("optional_dependencies")
        raise SettingsError(f"optional_dependencies from {origin}: {unknown[0]!r} is not a dependency; {known}")
    if not checks:
        return []
    # The circuit breaker's library imports redis and OpenTelemetry where they are installed: 0.3 s of CPU, 10 MB.
    from busmon.exporter.checks.watch import Schedule, Watch  # noqa: PLC0415

    schedule = Schedule(
        settings.check_interval_seconds,
        settings.check_timeout_seconds,
        settings.check_failures,
        settings.check_retry_seconds,
    )
    return [Watch(name, check, schedule, required=name not in optional) for name, check in checks.items()]


def resources(settings: Settings) -> Resources:
    """Make the reading of this process's resources and its registry directory's disk."""
    thresholds = {
        "memory": settings.memory_threshold,
        "disk": settings.disk_threshold,
        "cpu": settings.cpu_threshold,
    }
    return Resources(settings.registry_dir, thresholds)


def _checks(settings: Settings) -> Iterator[tuple[str, Check]]:
    if settings.postgres_url:
        _require(settings, "postgres_url", "postgres")
        from busmon.exporter.checks.postgres import PostgresCheck  # noqa: PLC0415 - its driver is an extra

        yield (
            "postgres",
            PostgresCheck(settings.postgres_url, settings.postgres_migration_query, settings.postgres_migration_head),
        )
    if settings.redis_url:
        _require(settings, "redis_url", "redis")
        from busmon.exporter.checks.redis import RedisCheck  # noqa: PLC0415 - its driver is an extra

        yield "redis", RedisCheck(settings.redis_url, settings.redis_warm_key or "")
    for name, url in settings.dependencies:
        yield name, HttpCheck(url) if urlsplit(url).scheme in {"http", "https"} else TcpCheck(url)


def _require(settings: Settings, setting: str, extra: str) -> None:
    extras.require(extra, f"{setting} from {settings.origin(setting)}: its check")
