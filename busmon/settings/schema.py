"""The schema of the settings: one typed row each drives flags, environment, file, `--help` and the docs table.

Pure data: `kinds.py` says which values are valid, `loading.py` where values come from.
"""

import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from busmon.errors import SettingsError
from busmon.settings import kinds
from busmon.settings.kinds import Dependency, FormatRule, Kind

_MAX_NAME = 100

CONFIG_VARIABLE = "BUSMON_CONFIG"


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the schema: a setting's name, kind, help and default.

    Attributes:
        name: the key in `busmon.toml`.
        default_text: the default, in words if it depends on the user.
        alias: a second flag, under another program's name; empty without one.
    """

    name: str
    kind: Kind
    help: str
    default_text: str
    alias: str = ""

    @property
    def variable(self) -> str:
        """Return the environment variable."""
        return f"BUSMON_{self.name.upper()}"

    @property
    def file_variable(self) -> str:
        """Return the environment variable that names a file with the value; for secrets only."""
        return f"{self.variable}_FILE"

    @property
    def flag(self) -> str:
        """Return the command line's flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def secret(self) -> bool:
        """Tell whether the value may hold a password: then it is masked, and a file can provide it."""
        return self.kind.masked is not None

    def show(self, value: Any) -> str:
        """Format a value as text, with a password masked."""
        return self.kind.show(self.kind.text(value))


def _state_directory() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/busmon")
    try:
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "busmon"
    except RuntimeError as error:
        raise SettingsError("registry_dir: this user has no home directory for a default; name a path") from error


def _machine_name() -> str:
    """Return the machine's name in the characters of a name; a kernel may have others."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:_MAX_NAME] or "host"


def _row(kind: Kind, help_: str, default_text: str = "", alias: str = "") -> dict[str, Any]:
    return {"kind": kind, "help": help_, "default_text": default_text, "alias": alias}


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting with its value; `origins` has the origin of each value that isn't a default."""

    amqp_url: str = field(
        default="amqp://guest:guest@localhost:5672/%2F",
        metadata=_row(
            kinds.urls("amqp", "amqps"),
            "the broker, with user, password and virtual host; of a cluster the URLs of its nodes",
        ),
    )
    management_url: str | None = field(
        default=None,
        metadata=_row(
            kinds.urls("http", "https"),
            "the broker's management API, with an operator's user and password; of a cluster the URLs of its nodes",
            "none",
        ),
    )
    publisher_password: str | None = field(
        default=None,
        metadata=_row(kinds.PASSWORD, "password of the agents' user, if `topology declare` creates it", "none"),
    )
    consumer_password: str | None = field(
        default=None,
        metadata=_row(kinds.PASSWORD, "password of the fleet's user, if `topology declare` creates it", "none"),
    )
    operator_password: str | None = field(
        default=None,
        metadata=_row(kinds.PASSWORD, "password of the operator's user, if `topology declare` creates it", "none"),
    )
    exchange: str = field(
        default="telemetry",
        metadata=_row(
            kinds.NAME, "the topic exchange that agents publish to; the names of all other objects start with it"
        ),
    )
    topology: Path | None = field(
        default=None,
        metadata=_row(kinds.PATH, "a topology file in place of the built-in one", "the built-in one"),
    )
    registry_dir: Path = field(
        default_factory=_state_directory,
        metadata=_row(
            kinds.PATH,
            "the directory of the shards' files, on a local disk",
            "/var/lib/busmon for root, else $XDG_STATE_HOME/busmon or ~/.local/state/busmon",
        ),
    )
    listen: str = field(default="127.0.0.1:9797", metadata=_row(kinds.ADDRESS, "the exporter's address"))
    web_config_file: Path | None = field(
        default=None,
        metadata=_row(
            kinds.PATH,
            "access to the exporter: TLS, passwords and tokens, in the file format of Prometheus' exporters",
            "none",
            alias="--web.config.file",
        ),
    )
    exporter_url: str | None = field(
        default=None,
        metadata=_row(
            kinds.url("http", "https"), "the exporter that `busmon top` reads, with user and password", "at `listen`"
        ),
    )
    workers: int = field(default=2, metadata=_row(kinds.whole(1, 256), "worker processes; at most one per shard"))
    catalogue: tuple[Path, ...] = field(
        default=(),
        metadata=_row(kinds.PATHS, "catalogue files that add to the built-in one or override it", "none"),
    )
    prefetch: int = field(
        default=1000, metadata=_row(kinds.whole(1, 65_535), "deliveries that a shard may hold unacked")
    )
    batch_size: int = field(default=500, metadata=_row(kinds.whole(1, 65_535), "deliveries that close a batch"))
    flush_interval_seconds: float = field(
        default=0.25, metadata=_row(kinds.seconds(0.001, 60), "the age at which an open batch is committed")
    )
    max_body_bytes: int = field(
        default=1_048_576,
        metadata=_row(kinds.whole(1, 2**31 - 1, "of bytes "), "the largest body, after decompression"),
    )
    formats: tuple[FormatRule, ...] = field(
        default=(FormatRule("otlp_metrics", "otlp"),),
        metadata=_row(kinds.FORMATS, "the format of bodies by routing key or queue, before content type and JSON"),
    )
    source_ownership: str = field(
        default="user",
        metadata=_row(
            kinds.choice("user", "required", "off"),
            "user: a source belongs to the user that opened it; required: in addition, each envelope needs a user_id",
        ),
    )
    presence_ttl_seconds: float = field(
        default=300.0,
        metadata=_row(kinds.seconds(0.1, 604_800), "time that a silent source's gauges stay in the scrape"),
    )
    max_adopted_families: int = field(
        default=1000, metadata=_row(kinds.whole(0, 100_000), "metrics that no catalogue names and the fleet adopts")
    )
    max_label_values: int = field(
        default=100,
        metadata=_row(kinds.whole(0, 1_000_000), "values of a label in a family; further values become `other`"),
    )
    label_forget_seconds: float = field(
        default=86_400.0,
        metadata=_row(kinds.seconds(1, 31_622_400), "silence after which a label value may lose its place to another"),
    )
    max_series_per_family: int = field(
        default=10_000, metadata=_row(kinds.whole(1, 100_000_000), "series of a family in all shards")
    )
    max_series: int = field(
        default=1_000_000, metadata=_row(kinds.whole(1, 1_000_000_000), "series of all families together")
    )
    max_bytes_per_family: int = field(
        default=33_554_432,
        metadata=_row(
            kinds.whole(65_536, 2**40, "of bytes "),
            "bytes of a family's series in the files of all shards: cells times the length of their keys",
        ),
    )
    max_bytes: int = field(
        default=134_217_728,
        metadata=_row(kinds.whole(65_536, 2**40, "of bytes "), "bytes of all families' series"),
    )
    max_adopted_bytes: int = field(
        default=16_777_216,
        metadata=_row(
            kinds.whole(65_536, 2**40, "of bytes "), "bytes of the series of all families that no catalogue names"
        ),
    )
    forbidden_labels: tuple[str, ...] = field(
        default=("user_id", "request_id", "session_id", "trace_id", "span_id", "correlation_id", "message_id"),
        metadata=_row(kinds.LABELS, "labels that are dropped from a sample unless its family has them"),
    )
    fsync: str = field(
        default="off",
        metadata=_row(kinds.choice("off", "commit"), "commit survives a power cut, and costs a disk flush per batch"),
    )
    standby_seconds: float = field(
        default=0.0,
        metadata=_row(
            kinds.seconds(0, 3600),
            "on a standby host: a shard is taken once nothing has consumed from its queue for so long; 0: at once",
        ),
    )
    replication: str = field(
        default="off",
        metadata=_row(
            kinds.choice("off", "stream"),
            "stream: totals are logs on RabbitMQ, so a host may die with its disk; each exporter serves all shards",
        ),
    )
    host_name: str = field(
        default_factory=_machine_name,
        metadata=_row(kinds.NAME, "this host's name among the hosts of a replicated fleet", "the machine's name"),
    )
    beat_timeout_seconds: float = field(
        default=30.0, metadata=_row(kinds.seconds(3, 3600), "silence after which a worker is killed and replaced")
    )
    postgres_url: str | None = field(
        default=None,
        metadata=_row(kinds.url("postgresql", "postgres"), "a PostgreSQL database that `/ready` checks", "none"),
    )
    postgres_migration_query: str = field(
        default="SELECT version_num FROM alembic_version",
        metadata=_row(kinds.QUERY, "a query for the applied migrations; none turns the check off"),
    )
    postgres_migration_head: tuple[str, ...] = field(
        default=(),
        metadata=_row(kinds.NAMES, "the query's result after all migrations", "any result"),
    )
    redis_url: str | None = field(
        default=None, metadata=_row(kinds.url("redis", "rediss"), "a Redis that `/ready` checks", "none")
    )
    redis_warm_key: str | None = field(
        default=None, metadata=_row(kinds.LINE, "a key that exists in that Redis while the cache is warm", "none")
    )
    dependencies: tuple[Dependency, ...] = field(
        default=(), metadata=_row(kinds.DEPENDENCIES, "further dependencies that `/ready` checks", "none")
    )
    optional_dependencies: tuple[str, ...] = field(
        default=(),
        metadata=_row(kinds.NAMES, "dependencies whose failure makes `/ready` degraded, but still ready", "none"),
    )
    check_interval_seconds: float = field(
        default=5.0, metadata=_row(kinds.seconds(0.1, 3600), "interval between checks of a dependency")
    )
    check_timeout_seconds: float = field(
        default=2.0, metadata=_row(kinds.seconds(0.05, 60), "time limit of a whole check")
    )
    check_failures: int = field(
        default=3,
        metadata=_row(kinds.whole(1, 1000), "failures in a row after which a dependency isn't checked for a while"),
    )
    check_retry_seconds: float = field(default=15.0, metadata=_row(kinds.seconds(0.1, 3600), "length of that pause"))
    memory_threshold: float = field(
        default=0.9,
        metadata=_row(kinds.ratio(), "the share of the memory limit in use above which `/ready` is degraded"),
    )
    disk_threshold: float = field(
        default=0.9,
        metadata=_row(
            kinds.ratio(), "the share of the registry directory's disk in use above which `/ready` is degraded"
        ),
    )
    cpu_threshold: float = field(
        default=0.95, metadata=_row(kinds.ratio(), "the share of the CPU limit in use above which `/ready` is degraded")
    )
    publish_interval_seconds: float = field(
        default=1.0, metadata=_row(kinds.seconds(0.01, 3600), "interval between an agent's publishes")
    )
    publish_buffer_bytes: int = field(
        default=16_777_216,
        metadata=_row(
            kinds.whole(65_536, 2**40, "of bytes "),
            "unconfirmed envelopes in an agent's memory; beyond it the oldest move to the spool",
        ),
    )
    spool_dir: Path = field(
        default_factory=lambda: _state_directory() / "spool",
        metadata=_row(
            kinds.PATH,
            "the local directory for unconfirmed envelopes that don't fit in memory, or are left at the end",
            "/var/lib/busmon/spool for root, else $XDG_STATE_HOME/busmon/spool or ~/.local/state/busmon/spool",
        ),
    )
    spool_bytes: int = field(
        default=268_435_456,
        metadata=_row(
            kinds.whole(0, 2**50, "of bytes "),
            "size of a process' spool; beyond it the oldest is dropped and counted; 0 turns the spool off",
        ),
    )
    plain_pika: str = field(
        default="0",
        metadata=_row(
            kinds.choice("0", "1"), "1 lets pika decode every delivery: slower, but independent of pika's internals"
        ),
    )
    pure_python: str = field(
        default="0",
        metadata=_row(kinds.choice("0", "1"), "1 leaves the compiled modules unused: slower, but all code is Python"),
    )
    log_level: str = field(
        default="info", metadata=_row(kinds.choice("debug", "info", "warning", "error"), "the least severe log line")
    )
    log_format: str = field(
        default="auto",
        metadata=_row(kinds.choice("auto", "console", "json"), "auto is console on a terminal, else json"),
    )
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def origin(self, name: str) -> str:
        """Return the origin of a setting's value."""
        return self.origins.get(name, "default")

    def default_broker_hint(self) -> str:
        """Return the end of a broker's error if nobody has set the broker's URL; else empty."""
        if "amqp_url" in self.origins or self.amqp_url != Settings().amqp_url:
            return ""
        return "; BUSMON_AMQP_URL isn't set, so this is the default address"

    def environment(self) -> dict[str, str]:
        """Return the environment that gives a child process these settings, even if the file has changed."""
        texts = ((setting, setting.kind.text(getattr(self, setting.name))) for setting in SCHEMA)
        values = {setting.variable: text or setting.kind.empty for setting, text in texts}
        return {**os.environ, **values, CONFIG_VARIABLE: os.devnull}


def _schema() -> Iterator[Setting]:
    for row in fields(Settings):
        if row.name != "origins":
            kind, help_, words = row.metadata["kind"], row.metadata["help"], row.metadata["default_text"]
            yield Setting(row.name, kind, help_, words or kind.text(row.default), row.metadata["alias"])


SCHEMA: tuple[Setting, ...] = tuple(_schema())
