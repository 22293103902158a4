"""A network of the run's own: hosts in nameless network namespaces on one bridge, each with a fixed address.

A namespace lives as long as somebody has it open, so the kernel takes the network away with this process, however the
process ends. Neighbour entries are static: a packet to a host that is cut off is dropped, and no error says so.
"""

import ctypes
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

Answer = TypeVar("Answer")

TOOLS = ("ip", "nsenter", "setpriv")
PREFIX = "10.99.0."
_MAC = "02:00:00:00:00:{:02x}"
_NOWHERE = _MAC.format(255)
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def obstacle() -> str:
    """Say why no network can be made here; empty where one can."""
    if platform.system() != "Linux" or os.geteuid():
        return "network namespaces take Linux and root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"a network of one's own takes {', '.join(missing)}: apt-get install iproute2 util-linux"
    try:
        with Network((1,)):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces can't be made here: {error}"


class Host:
    """A network namespace.

    Attributes:
        number: the last part of the address.
        ip: the address.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.ip = f"{PREFIX}{number}"
        # A thread that enters a namespace stays in it; sockets that the thread opens belong there.
        self._thread = ThreadPoolExecutor(1)
        self._descriptor = self._thread.submit(_new_namespace).result()
        self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the command line that runs a program in the namespace and ends the program with its parent."""
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={self.path}", *map(str, arguments)]

    def call(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call a function on a thread in the namespace."""
        return self._thread.submit(function, *arguments).result()

    def ip_command(self, *arguments: str) -> None:
        """Run `ip` in the namespace."""
        done = subprocess.run([*self.command("ip"), *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

    def close(self) -> None:
        """Let go of the namespace."""
        self._thread.shutdown()
        os.close(self._descriptor)


class Network:
    """Hosts on a bridge.

    Args:
        numbers: the hosts' numbers, each from 1 to 253.
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self._bridge = Host(254)
        self.hosts = {number: Host(number) for number in numbers}

    def __enter__(self) -> Self:
        self._bridge.ip_command("link", "add", "br0", "type", "bridge")
        self._bridge.ip_command("link", "set", "br0", "up")
        for host in self.hosts.values():
            self._plug_in(host)
        return self

    def __exit__(self, *_: object) -> None:
        for host in (*self.hosts.values(), self._bridge):
            host.close()

    def unplug(self, number: int) -> None:
        """Drop every packet to and from a host."""
        self._bridge.ip_command("link", "set", f"host{number}", "down")

    def plug_in(self, number: int) -> None:
        """Let packets pass again."""
        self._bridge.ip_command("link", "set", f"host{number}", "up")

    def part(self, number: int, others: Iterable[int]) -> None:
        """Drop every packet between a host and these others; all else passes."""
        for other in others:
            self._set_neighbour(number, other, _NOWHERE)
            self._set_neighbour(other, number, _NOWHERE)

    def join(self, number: int, others: Iterable[int]) -> None:
        """Let packets between a host and these others pass again."""
        for other in others:
            self._set_neighbour(number, other, _MAC.format(other))
            self._set_neighbour(other, number, _MAC.format(number))

    def _plug_in(self, host: Host) -> None:
        port, mac = f"host{host.number}", _MAC.format(host.number)
        host.ip_command("link", "set", "lo", "up")
        host.ip_command(
            *("link", "add", "eth0", "address", mac, "type", "veth", "peer", "name", port, "netns", self._bridge.path)
        )
        self._bridge.ip_command("link", "set", port, "master", "br0", "up")
        host.ip_command("address", "add", f"{host.ip}/24", "dev", "eth0")
        host.ip_command("link", "set", "eth0", "up")
        for other in self.hosts:
            if other != host.number:
                self._set_neighbour(host.number, other, _MAC.format(other))

    def _set_neighbour(self, number: int, other: int, mac: str) -> None:
        self.hosts[number].ip_command(
            *("neighbour", "replace", f"{PREFIX}{other}", "lladdr", mac, "dev", "eth0", "nud", "permanent")
        )


def _new_namespace() -> int:
    if _libc.unshare(_CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)
