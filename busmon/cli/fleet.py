"""`busmon up`, and the two commands that it starts: `busmon worker` and `busmon exporter`."""

import argparse

from busmon.cli.commands import Commands, add_command
from busmon.cli.options import add_settings, settings_from

UP_EXAMPLES = """\
examples:
  busmon up                                  two workers, and the scrape on 127.0.0.1:9797
  busmon up --workers 4 --listen 0.0.0.0:9797
  BUSMON_AMQP_URL=amqp://fleet:secret@rabbit.example/%2F busmon up

signals:
  TERM, INT   end in order: the workers commit and acknowledge, then the exporter stops; a second INT kills at once
  HUP         read the catalogue again, if it is right
"""

WORKER_EXAMPLES = """\
examples:
  busmon worker --shards 0,2                 own the shards 0 and 2

`busmon up` starts its workers by this command. By itself it is for a service manager that supervises each worker; no
two may own the same shard.
"""

EXPORTER_EXAMPLES = """\
examples:
  busmon exporter                            serve the registry directory on 127.0.0.1:9797
  busmon exporter --listen '[::]:9797'       on every address, to anyone who can reach it
  busmon exporter --listen '[::]:9797' --web.config.file web.yml
                                             to those whom the file lets in
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
    "catalogue",
    "prefetch",
    "batch_size",
    "flush_interval_seconds",
    "max_body_bytes",
    "formats",
    "source_ownership",
    "presence_ttl_seconds",
    "label_forget_seconds",
    *BUDGET_SETTINGS,
    "forbidden_labels",
    "fsync",
    "plain_pika",
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

SUPERVISED = "end in order once standard input does, as a supervisor's pipe does when the supervisor is gone"


def add(commands: Commands) -> None:
    """Add the three commands."""
    up = add_command(commands, "up", "run the whole fleet: workers and exporter", UP_EXAMPLES)
    up.add_argument("--supervised", action="store_true", help=SUPERVISED)
    add_settings(up, *UP_SETTINGS)
    up.set_defaults(run=run_up)

    worker = add_command(commands, "worker", "run one worker: consume and count its shards", WORKER_EXAMPLES)
    worker.add_argument("--shards", type=shards, required=True, metavar="N[,N]…", help="the shards that it owns")
    worker.add_argument("--supervised", action="store_true", help=SUPERVISED)
    add_settings(worker, *WORKER_SETTINGS)
    worker.set_defaults(run=run_worker)

    exporter = add_command(commands, "exporter", "serve metrics, health and readiness over HTTP", EXPORTER_EXAMPLES)
    exporter.add_argument("--supervised", action="store_true", help=SUPERVISED)
    add_settings(exporter, *EXPORTER_SETTINGS)
    exporter.set_defaults(run=run_exporter)


def shards(text: str) -> tuple[int, ...]:
    """The shards of `0,2`, ascending.

    Raises:
        argparse.ArgumentTypeError: it isn't a list of whole numbers, each once.
    """
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() for part in parts) or len({*map(int, parts)}) < len(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of shards like 0,2, each once")
    return tuple(sorted(map(int, parts)))


def run_up(args: argparse.Namespace) -> int:
    """Run the fleet until it is told to stop."""
    from busmon import logs
    from busmon.fleet import parent, up

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
    from busmon.fleet import parent, worker

    if args.supervised:
        parent.watch()
    settings, number = settings_from(args), args.shards[0]
    logs.configure(settings, "worker", worker=number)
    return worker.run(settings, args.shards, number)


def run_exporter(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from busmon import exporter, logs
    from busmon.fleet import parent

    if args.supervised:
        parent.watch()
    settings = settings_from(args)
    logs.configure(settings, "exporter")
    return exporter.run(settings)
