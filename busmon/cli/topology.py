"""`busmon topology declare|check|export`: the topology, made on a broker, compared with one, or written for one."""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from busmon import files
from busmon.cli.commands import Commands, add_command, add_group
from busmon.cli.options import add_settings, settings_from
from busmon.errors import BusError, TopologyError
from busmon.printable import escape
from busmon.text_files import read_text

if TYPE_CHECKING:
    from busmon.bus.topology.definitions import Definitions
    from busmon.bus.topology.topology import Topology
    from busmon.settings import Settings

DECLARE_EXAMPLES = """\
examples:
  busmon topology declare                    exchanges, queues and bindings on the broker of BUSMON_AMQP_URL
  busmon topology declare --celery           also take the events of Celery's workers and clients
  BUSMON_PUBLISHER_PASSWORD=… BUSMON_CONSUMER_PASSWORD=… BUSMON_OPERATOR_PASSWORD=… \\
  busmon topology declare --management-url http://admin:…@localhost:15672
                                             also users and permissions; an existing user keeps its password
  busmon topology declare --replication stream
                                             also the logs of a replicated fleet, each with its first record

Declaring again only rebuilds the ring, with the same shards. An object that exists with other arguments isn't changed:
exit status 2.
"""

CHECK_EXAMPLES = """\
examples:
  busmon topology check --management-url http://operator:…@localhost:15672
  busmon topology check --definitions broker.json
  rabbitmqctl export_definitions - | busmon topology check --definitions -

Exit status 1: the broker differs from the topology. A missing user is only a note, since any user with the same
permissions will do.
"""

EXPORT_EXAMPLES = """\
examples:
  busmon topology export --output definitions.json && rabbitmqctl import_definitions definitions.json
  busmon topology export | rabbitmqctl import_definitions

A user without a given password (BUSMON_PUBLISHER_PASSWORD and so on) is written without one: nobody can log in as that
user until `rabbitmqctl change_password` sets one. Importing over an existing user removes its password.
"""


def add(commands: Commands) -> None:
    """Add `topology` and its three commands."""
    actions = add_group(
        commands,
        "topology",
        "declare, check or export the RabbitMQ topology",
        "The exchanges, queues, bindings and users on RabbitMQ, from topology/telemetry.toml.",
    )
    declare = _add(actions, "declare", "declare missing objects on the broker", DECLARE_EXAMPLES)
    _add_celery(declare, "also take Celery's events: declare and bind the exchange celeryev (docs/celery.md)")
    add_settings(declare, "amqp_url", "management_url", "exchange", "topology", "replication")
    declare.set_defaults(run=run_declare)

    check = _add(actions, "check", "list differences between broker and topology", CHECK_EXAMPLES)
    check.add_argument(
        "--definitions",
        metavar="FILE",
        help="read the output of `rabbitmqctl export_definitions` from this file; '-' is standard input",
    )
    _add_celery(check, "expect the binding of Celery's events")
    add_settings(check, "amqp_url", "management_url", "exchange", "topology", "replication")
    check.set_defaults(run=run_check)

    export = _add(actions, "export", "write the topology as RabbitMQ definitions", EXPORT_EXAMPLES)
    export.add_argument("--output", metavar="FILE", type=Path, help="write to this file instead of standard output")
    export.add_argument(
        "--mode",
        metavar="MODE",
        type=_mode,
        default=0o600,
        help="the file's mode; 0640 for a broker of the same group (default: 0600)",
    )
    _add_celery(export, "write the exchange and the binding of Celery's events, too")
    add_settings(export, "amqp_url", "exchange", "topology", "replication")
    export.set_defaults(run=run_export)


def _add_celery(parser: argparse.ArgumentParser, help_: str) -> None:
    parser.add_argument("--celery", action="store_true", help=help_)


def _add(actions: Commands, name: str, summary: str, examples: str) -> argparse.ArgumentParser:
    where = f"{summary[0].upper()}{summary[1:]}, in the virtual host of BUSMON_AMQP_URL."
    return add_command(actions, name, summary, examples, description=where)


def run_declare(args: argparse.Namespace) -> int:
    """Declare, print what was done, and with a management API what is still different."""
    from busmon.bus.topology.declare import declare

    settings = settings_from(args)
    topology = _topology(settings, args)
    for line in declare(topology, settings.amqp_url, settings.management_url, _passwords(settings)):
        print(escape(line))
    different = _still_different(topology, settings)
    for line in different:
        print(escape(f"still different: {line}"))
    return 1 if different else 0


def _still_different(topology: "Topology", settings: "Settings") -> list[str]:
    """Return what `declare` couldn't see over AMQP: an exchange's arguments, bindings that shouldn't be there.

    The broker's version is left out: `declare` has named the queues that lack a newer argument.
    """
    from busmon.bus.topology.inspect import differences
    from busmon.bus.topology.version import UNKNOWN

    if settings.management_url is None:
        return []
    try:
        found = replace(_definitions(None, settings, topology), version=UNKNOWN)
        return differences(replace(topology, users=()), found)
    except BusError:
        return []


def run_check(args: argparse.Namespace) -> int:
    """Print the differences, then what isn't one: users that are missing, and what couldn't be seen."""
    from busmon.bus.topology.inspect import differences, missing_users

    settings = settings_from(args)
    topology = _topology(settings, args)
    definitions = _definitions(args.definitions, settings, topology)
    found = differences(topology, definitions)
    for line in found:
        print(escape(line))
    for name in missing_users(topology, definitions):
        print(f"note: user {name!r} is optional and missing; `busmon topology declare` creates this user")
    for line in definitions.unseen:
        print(escape(f"not visible: {line}"))
    if not found:
        looked = "the visible part of " if definitions.unseen else ""
        print(f"no difference in {looked}virtual host {definitions.virtual_host!r}")
    return 1 if found else 0


def run_export(args: argparse.Namespace) -> int:
    """Write the definitions, and say which users have no password in them."""
    from busmon.bus.connect.connection import virtual_host
    from busmon.bus.topology.definitions import export_definitions

    settings = settings_from(args)
    topology = _topology(settings, args)
    passwords = _passwords(settings)
    definitions = export_definitions(topology, virtual_host(settings.amqp_url), passwords)
    text = json.dumps(definitions, indent=2) + "\n"
    if args.output is None:
        print(text, end="")
    else:
        _write(args.output, text, args.mode)
    for user in topology.users:
        if not passwords[user.role]:
            print(f"user {user.name!r} has no password in it, so nobody can log in as this user", file=sys.stderr)
    return 0


def _topology(settings: "Settings", args: argparse.Namespace) -> "Topology":
    from busmon.bus.topology.topology import load

    return load(settings.topology, settings.exchange, settings.replication, with_celery=args.celery)


def _passwords(settings: "Settings") -> dict[str, str | None]:
    return {
        "publisher": settings.publisher_password,
        "consumer": settings.consumer_password,
        "operator": settings.operator_password,
    }


def _definitions(file: str | None, settings: "Settings", topology: "Topology") -> "Definitions":
    from busmon.bus.connect.connection import virtual_host
    from busmon.bus.topology.definitions import of_broker, of_export

    here = virtual_host(settings.amqp_url)
    if file is not None:
        return of_export(_read(file), "standard input" if file == "-" else file, here)
    if settings.management_url is None:
        raise TopologyError(
            "expected --management-url http://USER:PASSWORD@HOST:15672 (BUSMON_MANAGEMENT_URL) or --definitions FILE"
        )
    return of_broker(settings.management_url, here, topology.users)


def _read(file: str) -> str:
    # By its descriptor: a socket, or another user's pipe, as under sudo, can't be opened again by the name /dev/stdin.
    path, named = (0, "standard input") if file == "-" else (Path(file), file)
    return read_text(path, TopologyError, "the output of `rabbitmqctl export_definitions`", named=named)


def _write(path: Path, text: str, mode: int) -> None:
    """Replace a file as a whole; hashes of passwords may be in it, so nobody else reads it meanwhile."""
    try:
        files.replace(path, text.encode(), f"{path.suffix}.{os.getpid()}.tmp", mode)
    except OSError as error:
        raise TopologyError(f"{path}: can't write: {error.strerror}") from error


def _mode(text: str) -> int:
    """Parse a file's mode, such as 0640."""
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0o400 <= mode <= 0o777:  # noqa: PLR2004 - the owner may read
        raise argparse.ArgumentTypeError(f"{text!r} isn't a mode such as 0640")
    return mode
