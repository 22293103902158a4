import sys

import pytest

from busmon.errors import MissingExtraError, SettingsError
from busmon.exporter.checks import configured
from busmon.settings import Settings, load
from busmon.settings.schema import SCHEMA

SECRET = "s3cret-of-the-tests"  # noqa: S105 - nobody's
ENVIRONMENT = {
    "BUSMON_POSTGRES_URL": f"postgresql://app:{SECRET}@db/app?sslmode=verify-full&sslpassword={SECRET}",
    "BUSMON_REDIS_URL": f"rediss://:{SECRET}@cache/0?password={SECRET}",
    "BUSMON_REDIS_WARM_KEY": "warm",
    "BUSMON_DEPENDENCIES": f"billing=https://probe:{SECRET}@billing/health ldap=tcp://ldap:636",
}


def settings(**environment: str) -> Settings:
    return load(environ=ENVIRONMENT | environment)


def test_every_dependency_is_watched_and_required_but_for_those_called_optional() -> None:
    watches = configured.watches(settings(BUSMON_OPTIONAL_DEPENDENCIES="redis,ldap"))
    assert {watch.finding.name: watch.finding.required for watch in watches} == {
        "postgres": True,
        "redis": False,
        "billing": True,
        "ldap": False,
    }


def test_conditions_are_those_that_are_configured() -> None:
    def names(**environment: str) -> list[str]:
        watches = configured.watches(settings(**environment))
        return [condition.name for watch in watches for condition in watch.finding.conditions]

    assert names() == ["database_migration", "cache_warm"]
    assert names(BUSMON_POSTGRES_MIGRATION_QUERY="none") == ["cache_warm"]


def test_nothing_is_watched_where_nothing_is_configured() -> None:
    assert configured.watches(Settings()) == []


@pytest.mark.parametrize(("module", "extra"), [("asyncpg", "postgres"), ("redis", "redis")])
def test_a_driver_that_is_not_installed_is_one_line_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    given = load(environ={f"BUSMON_{extra.upper()}_URL": ENVIRONMENT[f"BUSMON_{extra.upper()}_URL"]})
    with pytest.raises(MissingExtraError) as caught:
        configured.watches(given)
    assert str(caught.value) == (
        f"{extra}_url from environment BUSMON_{extra.upper()}_URL: its check needs {module}, which isn't installed; "
        f"run: pip install 'busmon-telemetry[{extra}]'"
    )


def test_an_optional_dependency_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(
        SettingsError, match="'billling' is not a dependency; expected some of postgres, redis, billing"
    ):
        configured.watches(settings(BUSMON_OPTIONAL_DEPENDENCIES="billling"))


@pytest.mark.parametrize(
    "text",
    [
        "billing",
        "billing=",
        "=https://billing",
        "billing=ftp://billing",
        "ldap=tcp://ldap",
        "redis=tcp://cache:1",
        "a=tcp://a:1 a=tcp://b:1",
        f"b=https://u:{SECRET}@",
    ],
)
def test_a_wrong_dependency_is_one_line_without_its_password(text: str) -> None:
    with pytest.raises(SettingsError, match="dependencies from environment BUSMON_DEPENDENCIES: ") as caught:
        settings(BUSMON_DEPENDENCIES=text)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_no_setting_shows_a_password() -> None:
    given = settings()
    shown = [row.show(getattr(given, row.name)) for row in SCHEMA]
    assert "billing=https://probe:***@billing/health ldap=tcp://ldap:636" in shown
    assert not any(SECRET in text for text in shown)


def test_a_child_gets_the_same_settings_by_its_environment() -> None:
    given = settings(BUSMON_POSTGRES_MIGRATION_QUERY="none", BUSMON_POSTGRES_MIGRATION_HEAD="a1, b2")
    assert given.postgres_migration_query == ""
    assert given.postgres_migration_head == ("a1", "b2")
    assert load(environ=given.environment()) == given
