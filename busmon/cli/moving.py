"""`busmon registry into-log|from-log`: the moves between the files of one host and the logs of a replicated fleet."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from busmon.cli import registry_dir
from busmon.cli.commands import Commands, add_command, need_extra
from busmon.cli.options import add_settings, settings_from

if TYPE_CHECKING:
    from busmon.bus.topology.topology import Topology
    from busmon.settings import Settings

INTO_EXAMPLES = """\
examples:
  BUSMON_REPLICATION=stream busmon topology declare      first: new logs
  busmon registry into-log --registry-dir /var/lib/busmon

No fleet may run. Every log must be new. The directory stays as it is; start the replicated fleet with an empty one.
"""

FROM_EXAMPLES = """\
examples:
  busmon registry from-log --output /var/lib/busmon-files

No fleet may run, or the files lack what is counted meanwhile. Then delete the logs, and start `busmon up` with
BUSMON_REPLICATION=off and this directory.
"""


def add(actions: Commands) -> None:
    """Add both commands."""
    into = add_command(
        actions,
        "into-log",
        "move the totals of this directory into the logs of a replicated fleet",
        INTO_EXAMPLES,
        description="Make the state of each shard's files the state of its log on RabbitMQ.",
    )
    add_settings(into, "amqp_url", "exchange", "topology", "registry_dir", "catalogue", "host_name")
    need_extra(into, "fleet")
    into.set_defaults(run=run_into)

    back = add_command(
        actions,
        "from-log",
        "read the logs of a replicated fleet into a directory",
        FROM_EXAMPLES,
        description="Read each shard's log on RabbitMQ to its end, and leave the shard's files in a directory.",
    )
    back.add_argument("--output", metavar="DIR", type=Path, required=True, help="a directory that is made, or empty")
    add_settings(back, "amqp_url", "exchange", "topology", "catalogue", "host_name")
    need_extra(back, "fleet")
    back.set_defaults(run=run_from)


def run_into(args: argparse.Namespace) -> int:
    """Move the directory's totals into the logs."""
    from busmon.fleet.worker.moving import move_into_logs

    settings = _begin(args)
    with registry_dir.use(settings.registry_dir, is_written=True):
        lines = move_into_logs(settings, _topology(settings))
    print("\n".join(lines))
    return 0


def run_from(args: argparse.Namespace) -> int:
    """Read the logs into the directory."""
    from busmon.fleet.worker.moving import move_from_logs

    settings = _begin(args)
    registry_dir.make_output(args.output)
    move_from_logs(settings, _topology(settings), args.output, print)
    return 0


def _begin(args: argparse.Namespace) -> "Settings":
    from busmon import logs

    settings = settings_from(args)
    # What a worker logs while it follows is no news here: what fails ends the command.
    logs.configure(replace(settings, log_level="error"), "registry")
    return settings


def _topology(settings: "Settings") -> "Topology":
    from busmon.bus.topology.topology import load

    return load(settings.topology, settings.exchange, "stream")
