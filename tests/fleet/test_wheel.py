"""The built wheel, installed where nothing else is: an agent's host gets the base install, a fleet's host an extra."""

import argparse
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from busmon import __version__, cli, compiled
from tests.conftest import Vhost
from tests.fleet.publishing import envelope, publish
from tests.fleet.real_fleet import RealFleet
from tests.unit.registry.registries import Registry

REPOSITORY = Path(__file__).parents[2]
DATA = (
    "busmon/topology/telemetry.toml",
    "busmon/catalogue/celery.toml",
    "busmon/catalogue/platform.toml",
    "busmon/catalogue/own.toml",
    "busmon/wire/schema/envelope.json",
    "busmon/wire/schema/sample.json",
    "busmon/py.typed",
)
BASE = {"busmon-telemetry", "orjson", "pika", "tenacity"}
UV = (sys.executable, "-m", "uv", "--quiet")
"""It has pip's commands and takes a tenth of its time."""

COMMANDS: dict[str, tuple[int, str]] = {
    "catalogue check": (0, "families, no findings"),
    "catalogue show": (0, "tasks_processed_total"),
    "catalogue show --json": (0, "tasks_processed_total"),
    "quarantine list": (0, "quarantine"),
    "quarantine purge --yes": (0, ""),
    "quarantine replay --all": (0, ""),
    "quarantine show 1": (2, ""),
    "registry drop nothing": (2, ""),
    "registry rejected": (0, "there is no rejected sample"),
    "registry show": (0, "shard  owner"),
    "rules build rules": (0, "written"),
    "rules show": (0, "QueueBackup"),
    "rules thresholds": (0, "["),
    "schema": (0, "https://json-schema.org"),
    "settings": (0, "amqp_url"),
    "simulate --agents 1 --seconds 1": (0, "confirmed: samples"),
    "topology check": (0, "no difference"),
    "topology declare": (0, "telemetry.fold.0"),
    "topology export": (0, "telemetry.fold.0"),
}
"""Commands that the base install runs, with their exit status and a text that they print."""

NEEDING = {
    "dashboards build boards": "dashboards",
    "demo": "fleet",
    "exporter": "fleet",
    "registry from-log": "fleet",
    "registry into-log": "fleet",
    "top": "fleet",
    "up": "fleet",
    "up --workers 1.5": "fleet",
    "worker": "fleet",
    "worker --shards 0": "fleet",
}
"""Commands of an extra."""

PROGRAM = """
import sys
from busmon import Telemetry
with Telemetry(agent="analyzer", amqp_url=sys.argv[1]) as telemetry:
    telemetry.counter("votes_cast_total", labelnames=["type"]).labels("upvote").inc(3)
    assert telemetry.close(30)
"""


class Environment(NamedTuple):
    """A virtual environment with the wheel, and a directory to work in."""

    directory: Path
    wheel: Path

    @property
    def python(self) -> Path:
        return self.directory / "environment/bin/python"

    def run(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BUSMON_")}
        return subprocess.run(
            command,
            cwd=self.directory,
            env={**inherited, "BUSMON_REGISTRY_DIR": "registry", **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def busmon(self, arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.python.with_name("busmon"), *arguments.split(), **variables)

    def pip(self, command: str, *arguments: str | Path) -> str:
        return succeed(self.run(*UV, "pip", command, "--python", self.python, *arguments))

    def installed(self) -> set[str]:
        listed = self.pip("list", "--format=freeze")
        return {line.partition("==")[0].partition(" @")[0].lower() for line in listed.splitlines()}


def succeed(done: subprocess.CompletedProcess[str]) -> str:
    """Return its output; fail with its errors if it failed."""
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as a release has it."""
    directory = tmp_path_factory.mktemp("wheel")
    command = (*UV, "build", "--wheel", "--out-dir", directory)
    environment = {**os.environ, "BUSMON_COMPILE": "required"}
    succeed(subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False))
    return next(directory.glob("*.whl"))


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the base install, which no test changes."""
    return environment(tmp_path_factory.mktemp("base"), wheel)


def environment(directory: Path, wheel: Path) -> Environment:
    made = Environment(directory, wheel)
    succeed(made.run(*UV, "venv", "--python", sys.executable, "environment"))
    made.pip("install", wheel)
    (directory / "registry").mkdir(mode=0o700)
    with Registry(directory / "registry") as registry:
        registry.commit()
    return made


def test_it_holds_its_data_and_nothing_beside_the_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.startswith("busmon_telemetry-")
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"busmon"}
    assert set(DATA) <= set(names)


def test_it_holds_the_compiled_modules_and_a_fleet_uses_them(wheel: Path, base: Environment) -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    built = {f"{name.replace('.', '/')}{suffix}" for name in compiled.MODULES}
    assert {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith((".so", ".c"))} == built
    for pure, told in (("0", "compiled"), ("1", "pure Python")):
        assert succeed(base.busmon("--version", BUSMON_PURE_PYTHON=pure)) == f"busmon {__version__} ({told})\n"


def test_the_base_install_has_three_libraries_and_publishes(base: Environment, vhost: Vhost) -> None:
    assert base.installed() == BASE
    succeed(base.run(base.python, "-c", "import busmon, busmon.instrument"))
    succeed(base.busmon("topology declare", BUSMON_AMQP_URL=vhost.amqp_url))
    succeed(base.run(base.python, "-c", PROGRAM, vhost.amqp_url))
    succeed(base.busmon("publish votes_cast_total 4 -l type=upvote", BUSMON_AMQP_URL=vhost.amqp_url))


def test_the_base_install_shows_live_samples(base: Environment, vhost: Vhost) -> None:
    succeed(base.busmon("topology declare", BUSMON_AMQP_URL=vhost.amqp_url))
    tail = subprocess.Popen(
        [base.python.with_name("busmon"), "tail", "-n", "1", "--amqp-url", vhost.amqp_url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with tail:
        while tail.poll() is None:  # published again until the tail is bound
            succeed(base.busmon("publish queue_size 42 -l queue=tasks", BUSMON_AMQP_URL=vhost.amqp_url))
        assert tail.stdout
        assert 'queue_size{queue="tasks"} 42' in tail.stdout.read()


def test_every_command_runs_in_the_base_install_or_names_its_extra_in_one_line(base: Environment, vhost: Vhost) -> None:
    variables = {"BUSMON_AMQP_URL": vhost.amqp_url, "BUSMON_MANAGEMENT_URL": vhost.management_url}
    succeed(base.busmon("topology declare", **variables))
    for arguments, (status, text) in COMMANDS.items():
        done = base.busmon(arguments, **variables)
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, arguments
        assert text in done.stdout, arguments
    for arguments, extra in NEEDING.items():
        done = base.busmon(arguments, **variables)
        command = " ".join(
            word for word in arguments.split() if re.fullmatch("[a-z]+(-[a-z]+)?", word) and word != "boards"
        )
        assert (done.returncode, done.stdout) == (2, ""), arguments
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"busmon: `busmon {command}` needs ")
        assert line.endswith(f", which isn't installed; run: pip install 'busmon-telemetry[{extra}]'")


def test_the_lists_above_have_every_command() -> None:
    here = {"tail", "publish"}
    listed = [*COMMANDS, *NEEDING, *here]
    for name in commands(cli.parser()):
        assert any(arguments == name or arguments.startswith(f"{name} ") for arguments in listed), name


def commands(parser: argparse.ArgumentParser, *names: str) -> Iterator[str]:
    """Every command that does something, by its words."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield " ".join(names)
    for group in groups:
        for name, child in group.choices.items():
            yield from commands(child, *names, name)


def test_the_line_of_a_missing_extra_installs_a_fleet_that_runs(wheel: Path, tmp_path: Path, vhost: Vhost) -> None:
    here = environment(tmp_path, wheel)
    line = here.busmon("up").stderr
    pip, command, *arguments = shlex.split(line.partition("run: ")[2])
    assert pip == "pip"
    here.pip(command, *arguments)
    with RealFleet(tmp_path, vhost.amqp_url, python=here.python) as fleet:
        publish(
            vhost.amqp_url,
            [envelope("one", 1, [{"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 7}])],
        )
        fleet.wait_for_total("votes_cast_total", 7)
        assert "votes_cast_total" in succeed(here.busmon(f"top --once --listen {fleet.address}"))
        assert fleet.stop() == 0
    demo = here.busmon("demo --seconds 1 --listen 127.0.0.1:0", BUSMON_AMQP_URL=vhost.amqp_url)
    assert "totals are equal" in succeed(demo)
