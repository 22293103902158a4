"""`busmon topology declare|check|export`: the topology, made on a broker, compared with one, or written for one."""

import argparse
import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from busmon.cli.commands import Commands, add_command, add_group
from busmon.cli.options import add_settings, settings_from
from busmon.errors import BusError, TopologyError

if TYPE_CHECKING:
    from busmon.bus.definitions import Definitions
    from busmon.bus.topology import Topology
    from busmon.settings import Settings

DECLARE_EXAMPLES = """\
examples:
  busmon topology declare                    exchanges, queues and bindings on the broker of BUSMON_AMQP_URL
  BUSMON_PUBLISHER_PASSWORD=… BUSMON_CONSUMER_PASSWORD=… BUSMON_OPERATOR_PASSWORD=… \\
  busmon topology declare --management-url http://admin:…@localhost:15672
                                             users and their permissions, too; a user that exists keeps its password

Declaring again changes nothing, but for the ring, which is made anew with the same shards. What exists with other
arguments stays as it is and is named: exit status 2.
"""

CHECK_EXAMPLES = """\
examples:
  busmon topology check --management-url http://operator:…@localhost:15672
  busmon topology check --definitions broker.json
  rabbitmqctl export_definitions - | busmon topology check --definitions -

It exits with 1 where the broker differs from the topology.
"""

EXPORT_EXAMPLES = """\
examples:
  busmon topology export --output definitions.json && rabbitmqctl import_definitions definitions.json
  busmon topology export | rabbitmqctl import_definitions

A user whose password isn't given (BUSMON_PUBLISHER_PASSWORD and so on) is written without one: nobody can log in as
that user until `rabbitmqctl change_password` sets one, and importing over a user that exists takes its password away.
"""


def add(commands: Commands) -> None:
    """Add `topology` and its three commands."""
    actions = add_group(
        commands,
        "topology",
        "declare, check or export the RabbitMQ topology",
        "The exchanges, queues, bindings and users on RabbitMQ, as topology/telemetry.toml has them.",
    )
    declare = _add(actions, "declare", "make on the broker what isn't there", DECLARE_EXAMPLES)
    add_settings(declare, "amqp_url", "management_url", "exchange", "topology")
    declare.set_defaults(run=run_declare)

    check = _add(actions, "check", "list how the broker differs", CHECK_EXAMPLES)
    check.add_argument(
        "--definitions",
        metavar="FILE",
        help="look at what `rabbitmqctl export_definitions` wrote to this file, '-' for standard input",
    )
    add_settings(check, "amqp_url", "management_url", "exchange", "topology")
    check.set_defaults(run=run_check)

    export = _add(actions, "export", "write the topology as RabbitMQ definitions", EXPORT_EXAMPLES)
    export.add_argument("--output", metavar="FILE", type=Path, help="write to this file, not to standard output")
    export.add_argument(
        "--mode",
        metavar="MODE",
        type=_mode,
        default=0o600,
        help="the file's mode; 0640 for a broker of the same group (default: 0600)",
    )
    add_settings(export, "amqp_url", "exchange", "topology")
    export.set_defaults(run=run_export)


def _add(actions: Commands, name: str, summary: str, examples: str) -> argparse.ArgumentParser:
    where = f"{summary[0].upper()}{summary[1:]}, in the virtual host of BUSMON_AMQP_URL."
    return add_command(actions, name, summary, examples, description=where)


def run_declare(args: argparse.Namespace) -> int:
    """Declare, print what was done, and with a management API what is still different."""
    from busmon.bus.declare import declare

    settings = settings_from(args)
    topology = _topology(settings)
    for line in declare(topology, settings.amqp_url, settings.management_url, _passwords(settings)):
        print(line)
    different = _still_different(topology, settings)
    for line in different:
        print(f"still different: {line}")
    return 1 if different else 0


def _still_different(topology: "Topology", settings: "Settings") -> list[str]:
    """What AMQP doesn't tell, and so `declare` couldn't: an exchange's arguments, bindings that shouldn't be there."""
    from busmon.bus.inspect import differences

    if settings.management_url is None:
        return []
    try:
        return differences(replace(topology, users=()), _definitions(None, settings, topology))
    except BusError:
        return []


def run_check(args: argparse.Namespace) -> int:
    """Print the differences, and what couldn't be seen."""
    from busmon.bus.inspect import differences

    settings = settings_from(args)
    topology = _topology(settings)
    definitions = _definitions(args.definitions, settings, topology)
    found = differences(topology, definitions)
    for line in found:
        print(line)
    for line in definitions.unseen:
        print(f"not seen: {line}")
    if not found:
        looked = "what was seen of " if definitions.unseen else ""
        print(f"no difference in {looked}virtual host {definitions.virtual_host!r}")
    return 1 if found else 0


def run_export(args: argparse.Namespace) -> int:
    """Write the definitions, and say which users have no password in them."""
    from busmon.bus.connection import virtual_host
    from busmon.bus.definitions import exported

    settings = settings_from(args)
    topology = _topology(settings)
    passwords = _passwords(settings)
    text = json.dumps(exported(topology, virtual_host(settings.amqp_url), passwords), indent=2) + "\n"
    if args.output is None:
        print(text, end="")
    else:
        _write(args.output, text, args.mode)
    for user in topology.users:
        if not passwords[user.role]:
            print(f"user {user.name!r} has no password in it, so nobody can log in as this user", file=sys.stderr)
    return 0


def _topology(settings: "Settings") -> "Topology":
    from busmon.bus.topology import load

    return load(settings.topology, settings.exchange)


def _passwords(settings: "Settings") -> dict[str, str | None]:
    return {
        "publisher": settings.publisher_password,
        "consumer": settings.consumer_password,
        "operator": settings.operator_password,
    }


def _definitions(file: str | None, settings: "Settings", topology: "Topology") -> "Definitions":
    from busmon.bus.connection import virtual_host
    from busmon.bus.definitions import of_broker, of_export

    here = virtual_host(settings.amqp_url)
    if file is not None:
        return of_export(_read(file), "standard input" if file == "-" else file, here)
    if settings.management_url is None:
        raise TopologyError("nothing to look at: give --management-url (BUSMON_MANAGEMENT_URL) or --definitions FILE")
    return of_broker(settings.management_url, here, topology.users)


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise TopologyError(
            f"{file}: can't read: {why}; expected what `rabbitmqctl export_definitions` writes"
        ) from error


def _write(path: Path, text: str, mode: int) -> None:
    """Replace a file as a whole; hashes of passwords may be in it, so nobody else reads it meanwhile."""
    draft = path.with_name(f".{path.name}.new")
    try:
        with open(draft, "w", encoding="utf-8", opener=partial(os.open, mode=0o600)) as stream:
            stream.write(text)
        draft.chmod(mode)
        draft.replace(path)
    except OSError as error:
        raise TopologyError(f"{path}: can't write: {error.strerror}") from error


def _mode(text: str) -> int:
    """Parse a file's mode, such as 0640."""
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0o400 <= mode <= 0o777:  # noqa: PLR2004 - the owner may read
        raise argparse.ArgumentTypeError(f"{text!r} is not a mode such as 0640")
    return mode
