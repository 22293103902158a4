"""An installed RabbitMQ and what a private node of it needs: programs, an address, files, an environment.

Nothing here starts anything. Everything of a node stands beneath its directory and listens on the loopback interface;
nothing of the caller's environment, of `/etc/rabbitmq` or of another node reaches it.
"""

import json
import os
import secrets
import shutil
import socket
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from busmon.errors import UserError

LOOPBACK = "127.0.0.1"
PLUGINS = ("rabbitmq_management", "rabbitmq_consistent_hash_exchange")

# The packages' scripts in /usr/sbin change to the user `rabbitmq`, and a signal sent to them doesn't reach the node.
# These are the directories of RabbitMQ's own scripts.
SCRIPT_DIRECTORIES = (
    "/usr/lib/rabbitmq/bin",
    "/usr/lib64/rabbitmq/bin",
    "/opt/rabbitmq/sbin",
    "/usr/local/opt/rabbitmq/sbin",
    "/opt/homebrew/opt/rabbitmq/sbin",
)


def script(name: str) -> Path:
    """Find RabbitMQ's own script of this name, for example `rabbitmqctl`.

    Raises:
        UserError: RabbitMQ is not installed.
    """
    for directory in map(Path, SCRIPT_DIRECTORIES):
        if (directory / name).exists():
            return directory / name
    if found := shutil.which(name):
        return Path(found).resolve()
    raise UserError(f"{name} is not installed; install RabbitMQ, or set BUSMON_AMQP_URL to a broker that runs")


def epmd() -> Path:
    """Find Erlang's port mapper.

    Raises:
        UserError: Erlang is not installed.
    """
    if found := shutil.which("epmd"):
        return Path(found)
    erl = shutil.which("erl")
    shipped = sorted(Path(erl).resolve().parent.parent.glob("erts-*/bin/epmd")) if erl else []
    if not shipped:
        raise UserError("Erlang's epmd is not installed; install Erlang, or set BUSMON_AMQP_URL to a broker that runs")
    return shipped[-1]


@dataclass(frozen=True, slots=True)
class Address:
    """The names and ports of a node, unique on the machine, and kept in the node's directory for whoever joins it."""

    name: str
    amqp_port: int
    management_port: int
    distribution_port: int
    epmd_port: int

    @classmethod
    def choose(cls) -> Self:
        """Choose an address whose ports were free a moment ago."""
        return cls(f"busmon-{secrets.token_hex(6)}@localhost", *free_ports(4))

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read the address of the node that was started in this directory."""
        return cls(**json.loads((directory / "address.json").read_text()))


def write_files(directory: Path, address: Address) -> None:
    """Write the files that a node reads at its start; an existing cookie stays."""
    directory.mkdir(parents=True, exist_ok=True)
    cookie = directory / ".erlang.cookie"
    if not cookie.exists():
        cookie.touch(mode=0o600)
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
    (directory / "address.json").write_text(json.dumps(asdict(address)))
    (directory / "enabled_plugins").write_text(f"[{','.join(PLUGINS)}].\n")
    (directory / "rabbitmq.config").write_text(_configuration(address))
    (directory / "rabbitmq-env.conf").touch()
    # `localhost` needs no resolver then, whatever the machine's would say of it.
    (directory / "inetrc").write_text('{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file, native]}.\n')


def environment(directory: Path, address: Address) -> dict[str, str]:
    """Build the whole environment of a node and its tools: nothing of RabbitMQ's or Erlang's is inherited."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(directory),
        "LC_ALL": "C.UTF-8",
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "ERL_EPMD_PORT": str(address.epmd_port),
        "ERL_INETRC": str(directory / "inetrc"),
        "ERL_CRASH_DUMP_BYTES": "0",
        # An epmd that an Erlang program starts is a daemon and outlives it: the node's own is started with it.
        "ERL_FLAGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_NODENAME": address.name,
        "RABBITMQ_DIST_PORT": str(address.distribution_port),
        # Any free port: the default is a range of ten that every rabbitmqctl on the machine shares.
        "RABBITMQ_CTL_DIST_PORT_MIN": "0",
        "RABBITMQ_CTL_DIST_PORT_MAX": "0",
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.config"),
        "RABBITMQ_CONFIG_FILES": str(directory / "conf.d"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "advanced.config"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "rabbitmq-env.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_SCHEMA_DIR": str(directory / "schema"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(directory / "config"),
        "RABBITMQ_PLUGINS_EXPAND_DIR": str(directory / "plugins"),
        "RABBITMQ_LOG_BASE": str(directory),
        "RABBITMQ_LOGS": "-",
        # Makes the script become the node, instead of staying as its parent that forwards signals.
        "RUNNING_UNDER_SYSTEMD": "true",
    }


def _configuration(address: Address) -> str:
    # Erlang terms rather than rabbitmq.conf, whose translation costs a boot one and a half seconds. Statistics every
    # second instead of every five: whoever looks at this node, a test or a person, waits for them.
    return f"""[
  {{rabbit, [
    {{tcp_listeners, [{{"{LOOPBACK}", {address.amqp_port}}}]}},
    {{collect_statistics_interval, 1000}}
  ]}},
  {{rabbitmq_management, [
    {{tcp_config, [{{ip, "{LOOPBACK}"}}, {{port, {address.management_port}}}]}}
  ]}}
].
"""


def free_ports(count: int) -> list[int]:
    """Choose so many ports of the loopback interface that were free a moment ago."""
    # Below the ports that the kernel gives to outgoing connections: none of those takes one while a node restarts.
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            listener = held.enter_context(socket.socket())
            with suppress(OSError):
                listener.bind((LOOPBACK, 15_000 + secrets.randbelow(17_000)))
                ports.append(listener.getsockname()[1])
        return ports
