"""A Docker Engine of the tests' own, and the project's stack in it.

The engine and the images that replace Docker Hub's are made once and kept in the user's cache directory. One run
at a time uses them. Everything ends with the block: containers, volumes, the engine.
"""

import fcntl
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "busmon" / "engine"
TOOLS = ("mmdebstrap", "unshare", "nsenter", "setsid", "pgrep")
SECONDS = 900


def obstacle() -> str:
    """Say why no engine can run here; empty where one can."""
    if os.geteuid():
        return "an engine of one's own takes root"
    if platform.system() != "Linux" or "overlay" not in Path("/proc/filesystems").read_text():
        return "an engine takes Linux with overlayfs"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"an engine takes {', '.join(missing)}: apt-get install mmdebstrap" if missing else ""


class Engine:
    """A running engine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def inside(self, *command: str, check: bool = True) -> str:
        """Run a command in the engine's mounts and network; returns its output."""
        return _run(HERE / "engine.sh", self._directory, "in", *command, check=check)

    def docker(self, *arguments: str, check: bool = True) -> str:
        """Run `docker`."""
        return self.inside("docker", *arguments, check=check)

    def inspect(self, name: str) -> dict[str, Any]:
        """Describe a container, an image or a volume."""
        (described,) = json.loads(self.docker("inspect", name))
        return described  # type: ignore[no-any-return]  # an object of JSON


class Stack:
    """The project's compose file in an engine.

    Args:
        engine: runs it.
        variables: the environment of compose, in addition to `docker/demo.env`.
    """

    def __init__(self, engine: Engine, **variables: str) -> None:
        self.engine = engine
        self._variables = variables

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Run `docker compose` with every profile known."""
        given = [f"{name}={value}" for name, value in self._variables.items()]
        files = ("-f", "/srv/checkout/docker/compose.yaml", "--env-file", "/srv/checkout/docker/demo.env")
        return self.engine.inside("env", *given, "docker", "compose", *files, *arguments, check=check)

    def containers(self) -> dict[str, dict[str, Any]]:
        """Describe the containers by service."""
        ids = self.compose("--profile", "*", "ps", "--all", "--quiet").split()
        described = [self.engine.inspect(each) for each in ids]
        return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in described}

    def get(self, url: str) -> str:
        """Fetch a URL from within the fleet's container; returns the body of any answer."""
        program = (
            "import sys, urllib.request, urllib.error\n"
            "try: print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())\n"
            "except urllib.error.HTTPError as error: print(error.read().decode())"
        )
        return self.compose("exec", "-T", "busmon", "python", "-c", program, url)


@contextmanager
def running() -> Iterator[Engine]:
    """Start an engine with the checkout and the images in it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _run(HERE / "engine.sh", CACHE, "up")
        try:
            _copy_checkout(CACHE / "checkout")
            _run(HERE / "images.sh", CACHE)
            engine = Engine(CACHE)
            yield engine
        finally:
            _run(HERE / "engine.sh", CACHE, "down", check=False)


def _copy_checkout(target: Path) -> None:
    """Copy the files that git tracks or would track, so that nothing else can get into an image."""
    shutil.rmtree(target, ignore_errors=True)
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source, copy = ROOT / name, target / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)


def _run(*command: str | Path, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.stderr[-2000:]}{done.stdout[-500:]}")
    return done.stdout
