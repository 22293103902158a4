"""`busmon up`, and the two commands that it starts: `busmon worker` and `busmon exporter`."""

import argparse

from busmon.cli.commands import Commands, add_command, need_extra
from busmon.cli.options import add_settings, settings_from

UP_EXAMPLES = """\
examples:
  busmon up                                  two workers, and the scrape on 127.0.0.1:9797
  busmon up --workers 4 --listen 0.0.0.0:9797
  BUSMON_AMQP_URL=amqp://fleet:secret@rabbit.example/%2F busmon up
  busmon up --amqp-url amqp://fleet:secret@rabbit1/%2F,amqp://fleet:secret@rabbit2/%2F

signals:
  TERM, INT   end in order: the workers commit and ack, then the exporter stops; a second INT kills at once
  HUP         reload the catalogue, if it is valid
"""

WORKER_EXAMPLES = """\
examples:
  busmon worker --shards 0,2                 own the shards 0 and 2

`busmon up` starts its workers by this command. Run it yourself only if a service manager supervises each worker. Two
workers can't own the same shard.
"""

EXPORTER_EXAMPLES = """\
examples:
  busmon exporter                            serve the registry directory on 127.0.0.1:9797
  busmon exporter --listen '[::]:9797'       on every address, open to everyone
  busmon exporter --listen '[::]:9797' --web.config.file web.yml
                                             with the access rules of this file
"""

BUDGET_SETTINGS = (
    "max_adopted_families",
    "max_label_values",
    "max_series_per_family",
    "max_series",
    "max_bytes_per_family",
    "max_bytes",
    "max_adopted_bytes",
)
WORKER_SETTINGS = (
    "amqp_url",
    "exchange",
    "topology",
    "registry_dir",
    "replication",
    "host_name",
    "catalogue",
    "prefetch",
    "batch_size",
    "flush_interval_seconds",
    "max_body_bytes",
    "formats",
    "source_ownership",
    "standby_seconds",
    "presence_ttl_seconds",
    "label_forget_seconds",
    *BUDGET_SETTINGS,
    "forbidden_labels",
    "fsync",
    "plain_pika",
    "pure_python",
    "log_level",
    "log_format",
)
HEALTH_SETTINGS = (
    "postgres_url",
    "postgres_migration_query",
    "postgres_migration_head",
    "redis_url",
    "redis_warm_key",
    "dependencies",
    "optional_dependencies",
    "check_interval_seconds",
    "check_timeout_seconds",
    "check_failures",
    "check_retry_seconds",
    "memory_threshold",
    "disk_threshold",
    "cpu_threshold",
)
EXPORTER_SETTINGS = (
    "listen",
    "web_config_file",
    "registry_dir",
    "exchange",
    "replication",
    "host_name",
    "catalogue",
    *BUDGET_SETTINGS,
    *HEALTH_SETTINGS,
    "log_level",
    "log_format",
)
UP_SETTINGS = (
    "workers",
    "listen",
    "web_config_file",
    "management_url",
    "beat_timeout_seconds",
    *HEALTH_SETTINGS,
    *WORKER_SETTINGS,
)

SUPERVISED = "end in order when standard input ends, such as a supervisor's pipe"


def add(commands: Commands) -> None:
    """Add the three commands."""
    up = add_command(commands, "up", "run the whole fleet: workers and exporter", UP_EXAMPLES)
    up.add_argument("--supervised", action="store_true", help=SUPERVISED)
    add_settings(up, *UP_SETTINGS)
    need_extra(up, "fleet")
    up.set_defaults(run=run_up)

    worker = add_command(commands, "worker", "run one worker: consume and count its shards", WORKER_EXAMPLES)
    worker.add_argument("--shards", type=shards, required=True, metavar="N[,N]…", help="the shards to own")
    worker.add_argument("--supervised", action="store_true", help=SUPERVISED)
    add_settings(worker, *WORKER_SETTINGS)
    need_extra(worker, "fleet")
    worker.set_defaults(run=run_worker)

    exporter = add_command(commands, "exporter", "serve metrics, health and readiness over HTTP", EXPORTER_EXAMPLES)
    exporter.add_argument("--supervised", action="store_true", help=SUPERVISED)
    add_settings(exporter, *EXPORTER_SETTINGS)
    need_extra(exporter, "fleet")
    exporter.set_defaults(run=run_exporter)


def shards(text: str) -> tuple[int, ...]:
    """Parse shards such as `0,2`, in ascending order.

    Raises:
        argparse.ArgumentTypeError: it isn't a list of whole numbers, each once.
    """
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() for part in parts) or len({*map(int, parts)}) < len(parts):
        raise argparse.ArgumentTypeError(f"{text!r} isn't a list of different shards, such as 0,2")
    return tuple(sorted(map(int, parts)))


def run_up(args: argparse.Namespace) -> int:
    """Run the fleet until it is told to stop."""
    from busmon import logs
    from busmon.fleet.supervisor import parent, up

    if args.supervised:
        parent.watch()
    settings = settings_from(args)
    logs.configure(settings, "supervisor")
    if settings.web_config_file:
        # The exporter's to read, but a wrong one should end the command before anything is started.
        from busmon.exporter.access.access import Access

        Access(settings.web_config_file)
    return up.run(settings)


def run_worker(args: argparse.Namespace) -> int:
    """Run one worker until it is told to stop; its number in the fleet is its lowest shard's."""
    from busmon import logs
    from busmon.fleet.supervisor import parent
    from busmon.fleet.supervisor.directory import prepare
    from busmon.fleet.worker import kind, worker
    from busmon.settings import limits

    if args.supervised:
        parent.watch()
    settings, number = settings_from(args), args.shards[0]
    logs.configure(settings, "worker", worker=number)
    limits.require(len(args.shards))
    if not args.supervised:
        prepare(settings)
        kind.require_kind(settings)
    return worker.run(settings, args.shards, number)


def run_exporter(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from busmon import logs
    from busmon.exporter.server import server
    from busmon.fleet.supervisor import parent

    if args.supervised:
        parent.watch()
    settings = settings_from(args)
    logs.configure(settings, "exporter")
    return server.run(settings)
