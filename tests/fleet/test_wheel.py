"""The built wheel, installed where nothing else is: it has everything inside, and runs the fleet."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import Vhost
from tests.fleet.publishing import envelope, publish
from tests.fleet.real_fleet import RealFleet

REPOSITORY = Path(__file__).parents[2]
DATA = (
    "busmon/topology/telemetry.toml",
    "busmon/catalogue/platform.toml",
    "busmon/catalogue/own.toml",
    "busmon/wire/schema/envelope.json",
    "busmon/wire/schema/sample.json",
    "busmon/py.typed",
)


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; fails with it if the command does."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as a release has it."""
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", directory, ".", cwd=REPOSITORY)
    return next(directory.glob("*.whl"))


@pytest.mark.timeout(300)
def test_it_holds_its_data_and_nothing_beside_the_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.startswith("busmon_telemetry-")
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"busmon"}
    assert set(DATA) <= set(names)


@pytest.mark.timeout(300)
def test_it_runs_the_fleet_from_an_empty_environment(wheel: Path, tmp_path: Path, vhost: Vhost) -> None:
    run(sys.executable, "-m", "venv", "environment", cwd=tmp_path)
    python = tmp_path / "environment/bin/python"
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    assert "https://json-schema.org" in run(tmp_path / "environment/bin/busmon", "schema", cwd=tmp_path)
    with RealFleet(tmp_path, vhost.amqp_url, python=python) as fleet:
        publish(
            vhost.amqp_url,
            [envelope("one", 1, [{"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 7}])],
        )
        fleet.wait_for_total("votes_cast_total", 7)
        assert fleet.stop() == 0
