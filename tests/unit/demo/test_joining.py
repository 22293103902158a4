from dataclasses import replace

from busmon.demo.demo import joining
from busmon.settings import Settings, load

PRIVATE = "amqp://guest:guest@127.0.0.1:21845/%2F"


def of_a_private_broker() -> tuple[Settings, Settings]:
    given = load(environ={})
    return given, replace(given, amqp_url=PRIVATE)


def test_a_second_terminal_is_given_the_private_brokers_address_and_the_command_that_started_the_demo() -> None:
    assert joining(*of_a_private_broker(), ".venv/bin/busmon") == (
        f"BUSMON_AMQP_URL={PRIVATE} .venv/bin/busmon tail   in a second terminal"
    )


def test_a_path_with_a_space_is_quoted_for_the_shell() -> None:
    assert joining(*of_a_private_broker(), "/home/a b/bin/busmon") == (
        f"BUSMON_AMQP_URL={PRIVATE} '/home/a b/bin/busmon' tail   in a second terminal"
    )


def test_a_broker_of_a_flag_is_left_out_since_its_password_is() -> None:
    given = load({"amqp_url": "amqp://me:secret@rabbit.example/%2F"}, environ={})
    settings = replace(given, exchange="telemetry-demo-1")
    assert joining(given, settings, "busmon") == (
        "BUSMON_EXCHANGE=telemetry-demo-1 busmon tail   in a second terminal with your --amqp-url"
    )


def test_the_address_fits_a_screen_of_80_columns_beside_the_keys() -> None:
    shown = f" q or Ctrl-C exits   {joining(*of_a_private_broker(), 'busmon')}"[:79]
    assert f"BUSMON_AMQP_URL={PRIVATE}" in shown


def test_a_module_that_was_run_is_named_by_its_command() -> None:
    assert " busmon tail " in joining(*of_a_private_broker(), "/usr/lib/python3/busmon/__main__.py")


def test_on_the_users_own_broker_the_demos_exchange_is_named() -> None:
    given = load(environ={})
    settings = replace(given, exchange="telemetry-demo-1")
    assert joining(given, settings, "busmon") == "BUSMON_EXCHANGE=telemetry-demo-1 busmon tail   in a second terminal"
