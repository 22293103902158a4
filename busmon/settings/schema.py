"""The schema of the settings: one typed row each drives flags, environment, file, `--help` and the docs table.

Pure data: what a value may be stands in `kinds.py`, where values come from in `loading.py`.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from busmon.errors import SettingsError
from busmon.settings import kinds
from busmon.settings.kinds import Dependency, FormatRule, Kind

CONFIG_VARIABLE = "BUSMON_CONFIG"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the schema: how a setting is read, named and shown.

    Attributes:
        name: the key in `busmon.toml`.
        default_text: the default, in words where it depends on the user.
        alias: a second flag, by which other programs know it; empty where there is none.
    """

    name: str
    kind: Kind
    help: str
    default_text: str
    alias: str = ""

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"BUSMON_{self.name.upper()}"

    @property
    def file_variable(self) -> str:
        """The environment variable that names a file with the value; for secrets only."""
        return f"{self.variable}_FILE"

    @property
    def flag(self) -> str:
        """The command line's flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def secret(self) -> bool:
        """Whether a password may stand in it: masked wherever it is shown, and readable from a file of its own."""
        return self.kind.masked is not None

    def show(self, value: Any) -> str:
        """The value as text, a password masked."""
        return self.kind.show(self.kind.text(value))


def _state_directory() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/busmon")
    try:
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "busmon"
    except RuntimeError as error:
        raise SettingsError("registry_dir: this user has no home directory for a default; name a path") from error


def _row(kind: Kind, help_: str, default_text: str = "", alias: str = "") -> dict[str, Any]:
    return {"kind": kind, "help": help_, "default_text": default_text, "alias": alias}


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting with its value; `origins` says where each value that isn't a default came from."""

    amqp_url: str = field(
        default="amqp://guest:guest@localhost:5672/%2F",
        metadata=_row(
            kinds.url("amqp", "amqps"),
            "the broker, with user, password and virtual host",
        ),
    )
    management_url: str | None = field(
        default=None,
        metadata=_row(
            kinds.url("http", "https"),
            "the broker's management API, with an operator's user and password",
            "none",
        ),
    )
    publisher_password: str | None = field(
        default=None,
        metadata=_row(kinds.PASSWORD, "gives the agents' user, where `topology declare` creates it", "none"),
    )
    consumer_password: str | None = field(
        default=None,
        metadata=_row(kinds.PASSWORD, "gives the fleet's user, where `topology declare` creates it", "none"),
    )
    operator_password: str | None = field(
        default=None,
        metadata=_row(kinds.PASSWORD, "gives the operator's user, where `topology declare` creates it", "none"),
    )
    exchange: str = field(
        default="telemetry",
        metadata=_row(kinds.NAME, "the topic exchange that agents publish to; the other objects' names start with it"),
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
            "who may read the exporter: TLS, passwords and tokens, in the form of Prometheus' exporters",
            "none",
            alias="--web.config.file",
        ),
    )
    exporter_url: str | None = field(
        default=None,
        metadata=_row(
            kinds.url("http", "https"), "where `busmon top` finds the exporter, with a user and password", "at `listen`"
        ),
    )
    workers: int = field(default=2, metadata=_row(kinds.whole(1, 256), "worker processes; at most one per shard"))
    catalogue: tuple[Path, ...] = field(
        default=(),
        metadata=_row(kinds.PATHS, "catalogue files that add to or override the built-in one", "none"),
    )
    prefetch: int = field(
        default=1000, metadata=_row(kinds.whole(1, 65_535), "deliveries that a shard may hold unacknowledged")
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
        metadata=_row(
            kinds.FORMATS, "what bodies are, by their routing key or queue, where neither content type nor JSON says it"
        ),
    )
    source_ownership: str = field(
        default="user",
        metadata=_row(
            kinds.choice("user", "required", "off"),
            "user: a source belongs to the user that opened it; required: and each envelope states its user_id",
        ),
    )
    presence_ttl_seconds: float = field(
        default=300.0, metadata=_row(kinds.seconds(0.1, 604_800), "how long a silent source's gauges count")
    )
    max_adopted_families: int = field(
        default=1000, metadata=_row(kinds.whole(0, 100_000), "metrics taken up that no catalogue names")
    )
    max_label_values: int = field(
        default=100,
        metadata=_row(kinds.whole(0, 1_000_000), "values that a label may take in a family; others become `other`"),
    )
    label_forget_seconds: float = field(
        default=86_400.0,
        metadata=_row(kinds.seconds(1, 31_622_400), "a label value unseen for longer gives its place to another"),
    )
    max_series_per_family: int = field(
        default=10_000, metadata=_row(kinds.whole(1, 100_000_000), "series that a family may have in all shards")
    )
    max_series: int = field(
        default=1_000_000, metadata=_row(kinds.whole(1, 1_000_000_000), "series that all families may have together")
    )
    max_bytes_per_family: int = field(
        default=33_554_432,
        metadata=_row(
            kinds.whole(65_536, 2**40, "of bytes "),
            "what a family's series may take in the files of all shards: cells times the length of their keys",
        ),
    )
    max_bytes: int = field(
        default=134_217_728,
        metadata=_row(kinds.whole(65_536, 2**40, "of bytes "), "the same of all families together"),
    )
    max_adopted_bytes: int = field(
        default=16_777_216,
        metadata=_row(
            kinds.whole(65_536, 2**40, "of bytes "), "the same of all families together that no catalogue names"
        ),
    )
    forbidden_labels: tuple[str, ...] = field(
        default=("user_id", "request_id", "session_id", "trace_id", "span_id", "correlation_id", "message_id"),
        metadata=_row(kinds.LABELS, "labels that are left out of a sample unless its family names them"),
    )
    fsync: str = field(
        default="off",
        metadata=_row(kinds.choice("off", "commit"), "commit survives a power cut, at a disk flush per batch"),
    )
    beat_timeout_seconds: float = field(
        default=30.0, metadata=_row(kinds.seconds(3, 3600), "a worker silent for longer is killed and replaced")
    )
    postgres_url: str | None = field(
        default=None,
        metadata=_row(kinds.url("postgresql", "postgres"), "a PostgreSQL database that `/ready` answers for", "none"),
    )
    postgres_migration_query: str = field(
        default="SELECT version_num FROM alembic_version",
        metadata=_row(kinds.QUERY, "asks that database which migrations are applied; none leaves the check out"),
    )
    postgres_migration_head: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            kinds.NAMES, "what the query is to give once all migrations are applied", "whatever it gives, if anything"
        ),
    )
    redis_url: str | None = field(
        default=None, metadata=_row(kinds.url("redis", "rediss"), "a Redis that `/ready` answers for", "none")
    )
    redis_warm_key: str | None = field(
        default=None, metadata=_row(kinds.LINE, "a key that exists in that Redis while the cache is warm", "none")
    )
    dependencies: tuple[Dependency, ...] = field(
        default=(), metadata=_row(kinds.DEPENDENCIES, "what else `/ready` answers for", "none")
    )
    optional_dependencies: tuple[str, ...] = field(
        default=(),
        metadata=_row(kinds.NAMES, "dependencies without which `/ready` is degraded, but still ready", "none"),
    )
    check_interval_seconds: float = field(
        default=5.0, metadata=_row(kinds.seconds(0.1, 3600), "how often each dependency is asked")
    )
    check_timeout_seconds: float = field(
        default=2.0, metadata=_row(kinds.seconds(0.05, 60), "what a dependency may take to answer, all in all")
    )
    check_failures: int = field(
        default=3,
        metadata=_row(kinds.whole(1, 1000), "failures in a row after which a dependency is left alone for a while"),
    )
    check_retry_seconds: float = field(
        default=15.0, metadata=_row(kinds.seconds(0.1, 3600), "how long it is then left alone")
    )
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
        default=1.0, metadata=_row(kinds.seconds(0.01, 3600), "how often an agent publishes what it has gathered")
    )
    publish_buffer_bytes: int = field(
        default=16_777_216,
        metadata=_row(
            kinds.whole(65_536, 2**40, "of bytes "),
            "what an agent keeps in memory while the broker is away; beyond it the oldest goes to the spool",
        ),
    )
    spool_dir: Path = field(
        default_factory=lambda: _state_directory() / "spool",
        metadata=_row(
            kinds.PATH,
            "where an agent keeps, on a local disk, what is unconfirmed and has no room in memory or time at its end",
            "/var/lib/busmon/spool for root, else $XDG_STATE_HOME/busmon/spool or ~/.local/state/busmon/spool",
        ),
    )
    spool_bytes: int = field(
        default=268_435_456,
        metadata=_row(
            kinds.whole(0, 2**50, "of bytes "),
            "what an agent's process keeps there; beyond it the oldest is dropped and counted; 0 keeps nothing on disk",
        ),
    )
    plain_pika: str = field(
        default="0",
        metadata=_row(
            kinds.choice("0", "1"), "1 has pika decode every delivery: slower, but independent of how pika works inside"
        ),
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
        """Where the setting's value came from."""
        return self.origins.get(name, "default")

    def default_broker_hint(self) -> str:
        """Give the end of an error of the broker that says that nobody has set the broker; empty where somebody has."""
        if "amqp_url" in self.origins or self.amqp_url != Settings().amqp_url:
            return ""
        return "; BUSMON_AMQP_URL isn't set, so this is the default address"

    def environment(self) -> dict[str, str]:
        """The environment that gives a child process these very settings, whatever the file says by then."""
        texts = ((setting, setting.kind.text(getattr(self, setting.name))) for setting in SCHEMA)
        values = {setting.variable: text or setting.kind.empty for setting, text in texts}
        return {**os.environ, **values, CONFIG_VARIABLE: os.devnull}


def _schema() -> Iterator[Setting]:
    for row in fields(Settings):
        if row.name != "origins":
            kind, help_, words = row.metadata["kind"], row.metadata["help"], row.metadata["default_text"]
            yield Setting(row.name, kind, help_, words or kind.text(row.default), row.metadata["alias"])


SCHEMA: tuple[Setting, ...] = tuple(_schema())
