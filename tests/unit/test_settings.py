from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busmon import settings
from busmon.cli.settings import page
from busmon.errors import SettingsError
from busmon.settings import SCHEMA, Settings, address, load, mask, split_urls

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(flags: dict[str, str | None] | None = None, environ: dict[str, str] | None = None) -> str:
    """The one line that these settings are refused with."""
    with pytest.raises(SettingsError) as caught:
        load(flags, environ or {})
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2
    return str(caught.value)


def in_file(text: str, path: Path | None = None) -> dict[str, str]:
    """The environment in which this is the configuration."""
    path = path or Path("chosen.toml")
    path.write_text(text)
    return {"BUSMON_CONFIG": str(path)}


def test_a_flag_comes_before_the_environment_and_that_before_the_file() -> None:
    Path("busmon.toml").write_text("workers = 5\nprefetch = 50\nbatch_size = 7\n")
    found = load({"workers": "3", "prefetch": None}, {"BUSMON_WORKERS": "4", "BUSMON_PREFETCH": "40"})
    assert (found.workers, found.prefetch, found.batch_size, found.exchange) == (3, 40, 7, "telemetry")
    assert [found.origin(name) for name in ("workers", "prefetch", "batch_size", "exchange")] == [
        "flag --workers",
        "environment BUSMON_PREFETCH",
        "busmon.toml",
        "default",
    ]


def test_every_name_of_the_contract_exists() -> None:
    names = "AMQP_URL MANAGEMENT_URL EXCHANGE REGISTRY_DIR LISTEN WORKERS CATALOGUE PREFETCH FLUSH_INTERVAL_SECONDS"
    assert {f"BUSMON_{name}" for name in names.split()} <= {setting.variable for setting in SCHEMA}
    assert settings.CONFIG_VARIABLE == "BUSMON_CONFIG"
    assert Settings().listen == "127.0.0.1:9797"


def test_an_empty_variable_counts_as_unset() -> None:
    names = {setting.variable: "" for setting in SCHEMA} | {setting.file_variable: "" for setting in SCHEMA}
    assert load({}, names | {"BUSMON_CONFIG": ""}) == Settings()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("workers", "0"),
        ("workers", "257"),
        ("workers", "two"),
        ("workers", "2.0"),
        ("prefetch", "65536"),
        ("prefetch", "9" * 5000),
        ("flush_interval_seconds", "0"),
        ("flush_interval_seconds", "-1"),
        ("flush_interval_seconds", "nan"),
        ("flush_interval_seconds", "inf"),
        ("flush_interval_seconds", "1e400"),
        ("beat_timeout_seconds", "1"),
        ("listen", "9797"),
        ("listen", ":9797"),
        ("listen", "localhost"),
        ("listen", "localhost:"),
        ("listen", "localhost:65536"),
        ("listen", "localhost:-1"),
        ("listen", "localhost:\u0665"),
        ("listen", "::1:9797"),
        ("listen", "[::1]"),
        ("listen", "[nonsense]:9797"),
        ("listen", "http://localhost:9797"),
        ("exchange", "a b"),
        ("exchange", "telemetry\n"),
        ("registry_dir", ""),
        ("fsync", "on"),
        ("log_level", "INFO"),
        ("amqp_url", "localhost"),
        ("amqp_url", "http://localhost"),
        ("amqp_url", "amqp://"),
        ("amqp_url", "amqp://host:port"),
        ("amqp_url", "amqp://host:0"),
        ("amqp_url", "amqp://[::1"),
        ("amqp_url", "amqp://ho st"),
        ("amqp_url", "amqp://host/\nvhost"),
        ("amqp_url", "amqp://one,two"),
        ("amqp_url", "amqp://one:5672,two:5672/"),
        ("amqp_url", "amqp://one,http://two"),
        ("amqp_url", "amqp://one,redis://two"),
        ("amqp_url", "amqp://one/a,amqp://two/b"),
        ("amqp_url", "amqp://one/,amqp://two"),
        ("amqp_url", "amqp://u@one,amqp://w@two"),
        ("amqp_url", ","),
        ("management_url", "http://u:p@one,http://w:p@two"),
        ("management_url", "amqp://localhost"),
    ],
)
def test_a_wrong_value_is_one_line_with_setting_origin_and_what_is_accepted(name: str, text: str) -> None:
    setting = next(setting for setting in SCHEMA if setting.name == name)
    line = refusal({name: text})
    assert line.startswith(f"{name} from flag {setting.flag}: ")
    assert line.endswith(f" is not {setting.kind.accepts}")
    if text:
        assert f"{name} from environment {setting.variable}: " in refusal({}, {setting.variable: text})


@pytest.mark.parametrize(
    ("name", "toml", "shown"),
    [
        ("workers", "true", "true"),
        ("workers", "2.5", "2.5"),
        ("workers", "[2]", "an array"),
        ("workers", "{ count = 2 }", "a table"),
        ("workers", "2026-01-01", "2026-01-01"),
        ("flush_interval_seconds", "nan", "nan"),
        ("flush_interval_seconds", "inf", "inf"),
        ("flush_interval_seconds", "false", "false"),
        ("plain_pika", "2", "2"),
        ("plain_pika", "true", "true"),
        ("log_level", "1", "1"),
        ("exchange", "true", "true"),
        ("exchange", "5", "5"),
        ("registry_dir", "false", "false"),
        ("registry_dir", '"a\\u0000b"', r"'a\x00b'"),
        ("catalogue", "[1, 2]", "an array"),
        ("amqp_url", '["amqp://user:secret@host", "amqp://other:secret@host"]', "an array"),
    ],
)
def test_a_value_of_another_toml_type_is_refused(name: str, toml: str, shown: str) -> None:
    assert refusal({}, in_file(f"{name} = {toml}\n")).startswith(f"{name} from chosen.toml: {shown} is not ")


def test_a_toml_value_may_be_of_its_own_type_or_text() -> None:
    found = load(
        {}, in_file('workers = 4\nflush_interval_seconds = 1\nprefetch = "9"\ncatalogue = ["a.toml", "b.toml"]')
    )
    assert (found.workers, found.flush_interval_seconds, found.prefetch) == (4, 1.0, 9)
    assert found.catalogue == (Path("a.toml"), Path("b.toml"))
    assert load({}, in_file("plain_pika = 1\n")).plain_pika == load({}, in_file('plain_pika = "1"\n')).plain_pika == "1"


def test_an_unknown_key_is_refused_by_name() -> None:
    assert "chosen.toml: unknown setting 'worker'" in refusal({}, in_file("worker = 4\n"))


@pytest.mark.parametrize("text", ["workers = ", "workers = 1\nworkers = 2\n", "\0"])
def test_a_file_that_is_no_toml_is_refused(text: str) -> None:
    said = refusal({}, in_file(text))
    assert said.startswith("chosen.toml from environment BUSMON_CONFIG: ")
    assert said.endswith("; expected valid TOML, each key once")


def test_a_file_that_cannot_be_read_is_refused() -> None:
    Path("binary.toml").write_bytes(b"\xff\xfe")
    Path("directory.toml").mkdir()
    for name, reason in (
        ("binary.toml", "it isn't UTF-8 (at byte 1)"),
        ("directory.toml", "Is a directory"),
        ("absent.toml", "No such file or directory"),
    ):
        where = f"{name} from environment BUSMON_CONFIG: can't be read"
        assert refusal({}, {"BUSMON_CONFIG": name}) == f"{where}: {reason}; expected a TOML file of settings"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9797", "127.0.0.1", 9797),
        ("[::1]:9797", "::1", 9797),
        ("[::]:0", "::", 0),
        ("box:65535", "box", 65535),
    ],
)
def test_an_address_has_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert load({"listen": text}, {}).listen == text
    assert address(text) == (host, port)


def test_a_path_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load({}, in_file('registry_dir = "~/busmon"')).registry_dir == Path("/home/somebody/busmon")
    assert "registry_dir from flag" in refusal({"registry_dir": "~nobody-of-this-name/busmon"})


def test_the_registry_of_a_user_is_in_the_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert Settings().registry_dir == Path("/state/busmon")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Settings().registry_dir == Path("/home/somebody/.local/state/busmon")


def test_the_registry_of_root_is_in_var_lib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert Settings().registry_dir == Path("/var/lib/busmon")


def test_a_user_without_a_home_is_told_to_name_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", _no_home)
    assert refusal().startswith("registry_dir: ")


def _no_home() -> Path:
    raise RuntimeError


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://user:secret@host:5672/%2F", "amqp://user:***@host:5672/%2F"),
        ("amqp://user:sec@ret@host", "amqp://user:***@host"),
        ("amqp://user:sec/ret@host", "amqp://user:***@host"),
        ("amqp://user:sec?ret@host", "amqp://user:***@host"),
        ("amqp://user:sec#ret@host", "amqp://user:***@host"),
        ("amqp://user:sec://ret@host", "amqp://user:***@host"),
        ("amqp://us/er:secret@host", "amqp://us/er:***@host"),
        ("amqp://:secret@host", "amqp://:***@host"),
        ("amqp:/user:secret@host", "amqp:***@host"),
        ("user:secret@host", "user:***@host"),
        ("amqp://user:secret", "amqp://user:***"),
        ("amqp://user:secret/vhost", "amqp://user:***"),
        ("amqp//user:secret", "amqp//user:***"),
        (
            "amqps://host?ssl_options=%7B%27password%27:%27secret%27%7D&heartbeat=5",
            "amqps://host?ssl_options=***&heartbeat=5",
        ),
        ("amqp://u:one@a,amqps://u:two@b:5/%2F", "amqp://u:***@a,amqps://u:***@b:5/%2F"),
        ("amqp://u:one@a, amqp://u:two", "amqp://u:***@a,amqp://u:***"),
        ("amqp://host", "amqp://host"),
        ("amqp://user@host", "amqp://user@host"),
        ("http://host:15672/api", "http://host:15672/api"),
        ("http://[::1]:15672", "http://[::1]:15672"),
    ],
)
def test_a_password_is_masked_however_malformed_the_url(url: str, shown: str) -> None:
    assert mask(url) == shown


@given(
    st.text(min_size=4).map(lambda text: f"<{text}>"), st.sampled_from(["{}@host", "{}@host:x", "{}@", "{}@ho st/v"])
)
def test_no_password_ever_stands_in_an_error(password: str, rest: str) -> None:
    assert password not in told_of("amqp://user:" + rest.replace("{}", password))


def told_of(url: str) -> str:
    """All that a user is shown of this URL, right or wrong, a traceback included."""
    try:
        found = load({"amqp_url": url}, {"BUSMON_CONFIG": "/dev/null"})
    except SettingsError as error:
        return "".join(traceback.format_exception(error))
    return SCHEMA[0].show(found.amqp_url)


def test_what_is_a_password_altogether_is_never_shown() -> None:
    setting = next(setting for setting in SCHEMA if setting.name == "operator_password")
    assert setting.show("secret") == "***"
    assert "sec" not in refusal({"operator_password": "sec\nret"})


def test_a_secret_can_be_read_from_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("amqp://user:secret@host\n")
    found = load({}, {"BUSMON_AMQP_URL_FILE": str(tmp_path / "secret")})
    assert found.amqp_url == "amqp://user:secret@host"
    assert found.origin("amqp_url") == "environment BUSMON_AMQP_URL_FILE"
    line = refusal({}, {"BUSMON_AMQP_URL_FILE": str(tmp_path / "absent")})
    assert line.startswith(f"amqp_url from environment BUSMON_AMQP_URL_FILE: {tmp_path / 'absent'}: can't be read: ")
    assert load({}, {"BUSMON_EXCHANGE_FILE": "absent"}) == Settings()


def test_a_variable_that_is_nearly_a_settings_is_told_with_the_one_that_was_meant() -> None:
    wrong = {"BUSMON_WORKER": "4", "BUSMON_AMQPURL_FILE": "x", "BUSMON_confg": "x", "WORKERS": "4"}
    others = {"BUSMON_SERVICE_HOST": "10.0.0.1", "BUSMON_PORT": "tcp://10.0.0.1:9797", "BUSMON_VERSION": "1"}
    right = {"BUSMON_WORKERS": "4", "BUSMON_AMQP_URL_FILE": "x", "BUSMON_CONFIG": "x"}
    assert settings.misspelt(wrong | others | right) == {
        "BUSMON_AMQPURL_FILE": "BUSMON_AMQP_URL_FILE",
        "BUSMON_WORKER": "BUSMON_WORKERS",
        "BUSMON_confg": "BUSMON_CONFIG",
    }


def test_a_child_gets_these_very_settings_whatever_the_file_says_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = load(
        {"workers": "3", "catalogue": "a.toml:b.toml", "amqp_url": "amqp://user:secret@host"},
        in_file('prefetch = 77\nregistry_dir = "/somewhere"\n'),
    )
    Path("busmon.toml").write_text("prefetch = 1\nmistake = 1\n")
    monkeypatch.setenv("BUSMON_WORKERS", "9")
    assert load({}, parent.environment()) == parent


def test_the_page_of_all_settings_is_in_step_with_the_schema() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == page(), "busmon settings --markdown > docs/settings.md"


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("amqp://host", ["amqp://host"]),
        ("amqp://u:a,b@host/v,h", ["amqp://u:a,b@host/v,h"]),
        ("amqp://one,amqps://two:5,amqp://[::1]:6/%2F", ["amqp://one", "amqps://two:5", "amqp://[::1]:6/%2F"]),
        (" amqp://u:p@one/v , amqp://u:q@two/v,\n", ["amqp://u:p@one/v", "amqp://u:q@two/v"]),
        ("amqp://one\namqp://guest@two\n", ["amqp://one", "amqp://guest@two"]),
        (
            "amqp://u%20@one/%76,amqp://u%20:p@two/v?heartbeat=9",
            ["amqp://u%20@one/%76", "amqp://u%20:p@two/v?heartbeat=9"],
        ),
    ],
)
def test_the_urls_of_a_cluster_are_a_list(text: str, urls: list[str]) -> None:
    found = load({"amqp_url": text}, {"BUSMON_CONFIG": "/dev/null"})
    assert split_urls(found.amqp_url) == urls
    again = load({"amqp_url": found.amqp_url}, {"BUSMON_CONFIG": "/dev/null"})
    assert again.amqp_url == found.amqp_url


def test_a_toml_file_may_list_the_urls_of_a_cluster() -> None:
    found = load({}, in_file('amqp_url = ["amqp://one", "amqp://two"]\n'))
    assert found.amqp_url == "amqp://one,amqp://two"
    assert found.environment()["BUSMON_AMQP_URL"] == "amqp://one,amqp://two"
