"""The set-up installs what is missing; no service starts or is enabled by that, and the machine's policy returns.

`.ci/install` stands on a directory of the test's own, with a stub for apt-get; `.ci/setup` on a copy of the project's
bare bones, with a PATH that holds only what the test puts there.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.patience import PATIENCE_SECONDS

PROJECT = Path(__file__).parents[2]
FOR_TESTS = "prometheus prometheus-alertmanager prometheus-node-exporter victoria-metrics postgresql redis-server"

# Stands for apt-get: notes what the policy says while packages are installed, unpacks services that their package
# enables in each way there is, and enables an old one once more, as an upgrade may.
APT_GET = """#!/bin/bash
echo "$@" >>"$ROOT/calls"
[[ " $* " = *" install "* ]] || exit 0
"$ROOT/usr/sbin/policy-rc.d" rabbitmq-server start
echo $? >"$ROOT/policy-said"
touch "$ROOT/lib/systemd/system/"{broker.service,mapper.socket,mapper@.service} "$ROOT/etc/init.d/broker"
ln -s /lib/systemd/system/broker.service "$ROOT/etc/systemd/system/multi-user.target.wants/broker.service"
ln -s /lib/systemd/system/broker.service "$ROOT/etc/systemd/system/alias-of-broker.service"
ln -s /lib/systemd/system/mapper.socket "$ROOT/etc/systemd/system/sockets.target.wants/mapper.socket"
ln -s /lib/systemd/system/mapper@.service "$ROOT/etc/systemd/system/multi-user.target.wants/mapper@one.service"
ln -s ../init.d/broker "$ROOT/etc/rc2.d/S01broker"
ln -s ../init.d/broker "$ROOT/etc/rc0.d/K01broker"
ln -sf /lib/systemd/system/old.service "$ROOT/etc/systemd/system/sockets.target.wants/old.service"
touch "$ROOT/installing"
while [ -e "$ROOT/wait" ]; do sleep 0.02; done
if [ -e "$ROOT/fail" ]; then
    echo 'E: Unable to locate package broker'
    exit 100
fi
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine's file system with one service that was there before."""
    root = tmp_path / "the root"
    for directory in (
        "bin",
        "usr/sbin",
        "lib/systemd/system",
        "etc/init.d",
        "etc/rc0.d",
        "etc/rc2.d",
        "etc/systemd/system/multi-user.target.wants",
        "etc/systemd/system/sockets.target.wants",
    ):
        (root / directory).mkdir(parents=True)
    (root / "lib/systemd/system/old.service").touch()
    (root / "etc/init.d/old").touch()
    (root / "etc/rc2.d/S01old").symlink_to("../init.d/old")
    (root / "etc/systemd/system/multi-user.target.wants/old.service").symlink_to("/lib/systemd/system/old.service")
    program(root / "bin/apt-get", APT_GET)
    return root


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def start(root: Path) -> subprocess.Popen[str]:
    environment = {"PATH": f"{root / 'bin'}:{os.environ['PATH']}", "ROOT": str(root), "TMPDIR": str(root)}
    return subprocess.Popen(
        [PROJECT / ".ci/install", "--root", root, "broker"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def install(root: Path) -> subprocess.CompletedProcess[str]:
    with start(root) as running:
        out, err = running.communicate(timeout=PATIENCE_SECONDS)
    return subprocess.CompletedProcess([], running.returncode, out, err)


def await_file(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def links(root: Path) -> set[str]:
    return {str(path.relative_to(root / "etc")) for path in (root / "etc").rglob("*") if path.is_symlink()}


POLICY = "#!/bin/sh\nexit 104\n"


@pytest.fixture
def policy(root: Path) -> Path:
    """The machine's own policy, with a mode of its own."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text(POLICY)
    policy.chmod(0o750)
    return policy


def assert_restored(policy: Path) -> None:
    assert [path.name for path in policy.parent.iterdir()] == ["policy-rc.d"]
    assert policy.read_text() == POLICY
    assert policy.stat().st_mode & 0o777 == 0o750


def test_nothing_may_start_while_packages_install_and_the_policy_returns(root: Path, policy: Path) -> None:
    done = install(root)
    assert done.returncode == 0, done.stderr
    assert (root / "policy-said").read_text() == "101\n"
    assert_restored(policy)


def test_a_machine_without_a_policy_has_none_afterwards(root: Path) -> None:
    assert install(root).returncode == 0
    assert (root / "policy-said").read_text() == "101\n"
    assert not list((root / "usr/sbin").iterdir())


def test_a_policy_that_is_a_symbolic_link_stays_one(root: Path) -> None:
    policy = root / "usr/sbin/policy-rc.d"
    policy.symlink_to("/nowhere/policy")
    assert install(root).returncode == 0
    assert policy.readlink() == Path("/nowhere/policy")


def test_a_failure_is_one_line_with_apts_reason_and_the_policy_returns(root: Path, policy: Path) -> None:
    (root / "fail").touch()
    done = install(root)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "apt-get can't install broker: E: Unable to locate package broker" in done.stderr
    assert_restored(policy)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_waits_for_apt_and_the_policy_returns(root: Path, policy: Path, number: signal.Signals) -> None:
    (root / "wait").touch()
    with start(root) as running:
        await_file(root / "installing")
        running.send_signal(number)
        # The packages are still being installed: a policy restored now would let their services start.
        assert policy.read_text() != POLICY
        (root / "wait").unlink()
        running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == 128 + number
    assert not list(root.glob("busmon-apt.*"))
    assert_restored(policy)
    assert "rc2.d/S01broker" not in links(root)


def test_a_run_that_was_killed_outright_is_mended_by_the_next(root: Path, policy: Path) -> None:
    (root / "wait").touch()
    with start(root) as running:
        await_file(root / "installing")
        running.kill()
        (root / "wait").unlink()
        running.communicate(timeout=PATIENCE_SECONDS)
    assert policy.read_text() != POLICY
    program(root / "bin/apt-get", "#!/bin/sh\n")
    assert install(root).returncode == 0
    assert_restored(policy)


def test_a_policy_that_was_replaced_since_a_killed_run_stays(root: Path, policy: Path) -> None:
    policy.with_name("policy-rc.d.before-busmon").write_text("#!/bin/sh\nexit 0\n")
    assert install(root).returncode == 0
    assert_restored(policy)


def test_services_that_came_with_the_packages_are_left_disabled_and_older_ones_untouched(root: Path) -> None:
    before = links(root)
    done = install(root)
    assert links(root) - before == {
        "rc0.d/K01broker",
        "rc2.d/K01broker",
        "systemd/system/sockets.target.wants/old.service",
    }
    assert before <= links(root)
    assert "left disabled: alias-of-broker.service broker.service mapper.socket mapper@one.service" in done.stdout


@pytest.mark.parametrize("runs", [False, True])
def test_a_systemd_that_runs_is_told_and_none_is_needed(root: Path, *, runs: bool) -> None:
    program(root / "bin/systemctl", '#!/bin/sh\necho "systemctl $*" >>"$ROOT/calls"\n')
    if runs:
        (root / "run/systemd/system").mkdir(parents=True)
    assert install(root).returncode == 0
    assert ("systemctl daemon-reload" in (root / "calls").read_text()) is runs


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone that was set up before, with a directory `bin` for PATH that lacks Python, apt-get and RabbitMQ."""
    clone = tmp_path / "a clone"
    shutil.copytree(PROJECT / ".ci", clone / ".ci")
    shutil.copy(PROJECT / "pyproject.toml", clone)
    (clone / "bin").mkdir()
    for name in ("bash", "cat", "dirname", "flock", "grep", "head", "mktemp", "rm", "sha256sum", "tail"):
        found = shutil.which(name)
        assert found
        (clone / "bin" / name).symlink_to(found)
    program(clone / "bin/id", "#!/bin/bash\necho 1000\n")
    (clone / ".venv/bin").mkdir(parents=True)
    # Stands for the environment's Python, in which RabbitMQ's scripts are to be found or not.
    program(clone / ".venv/bin/python", '#!/bin/bash\n[[ "$*" != *rabbitmq* || -e "${0%/*}/rabbitmq-is-installed" ]]\n')
    digest = hashlib.sha256((clone / "pyproject.toml").read_bytes()).hexdigest()
    (clone / ".venv/.set-up").write_text(f"{clone.resolve()}\n{digest}  -\n")
    return clone


def set_up(clone: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [clone / ".ci/setup", *arguments],
        env={"PATH": str(clone / "bin"), "TMPDIR": str(clone)} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_second_set_up_asks_nothing_of_the_machine(clone: Path) -> None:
    (clone / ".venv/bin/rabbitmq-is-installed").touch()
    done = set_up(clone)
    assert (done.returncode, done.stdout, done.stderr) == (0, "busmon set-up: ready\n", "")


def test_a_broker_that_is_named_spares_the_installation_but_not_the_tests(clone: Path) -> None:
    assert set_up(clone, BUSMON_AMQP_URL="amqp://elsewhere").returncode == 0
    done = set_up(clone, "--test", BUSMON_AMQP_URL="amqp://elsewhere")
    assert done.returncode == 1
    assert f"rabbitmq-server {FOR_TESTS} is missing" in done.stderr


def test_a_missing_python_is_one_line(clone: Path) -> None:
    (clone / ".venv/.set-up").unlink()
    program(clone / "bin/python3", "#!/bin/bash\nexit 1\n")
    done = set_up(clone)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "busmon set-up: Python 3.11 or later is missing (looked for python3 and for python3.11 to python3.14)"
    ]


def test_a_python_without_its_venv_module_gets_debians_package(clone: Path) -> None:
    (clone / ".venv/.set-up").unlink()
    python = '#!/bin/bash\ncase "$*" in *ensurepip*) exit 1 ;; *venv*) echo python3.11-venv ;; esac\n'
    program(clone / "bin/python3", python)
    done = set_up(clone)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "python3.11-venv is missing" in done.stderr


def test_a_system_without_apt_is_told_what_is_missing(clone: Path) -> None:
    done = set_up(clone)
    assert done.returncode == 1
    assert done.stderr == (
        "busmon set-up: rabbitmq-server is missing, and this system has no apt-get to install it with\n"
    )


def test_neither_root_nor_sudo_is_one_line(clone: Path) -> None:
    program(clone / "bin/apt-get", "#!/bin/bash\n")
    done = set_up(clone)
    assert done.returncode == 1
    assert done.stderr == "busmon set-up: rabbitmq-server is missing, and installing it takes root or sudo\n"


def test_a_sudo_that_cannot_ask_for_its_password_is_one_line(clone: Path) -> None:
    program(clone / "bin/apt-get", "#!/bin/bash\n")
    program(clone / "bin/sudo", "#!/bin/bash\necho 'sudo: a password is required' >&2\nexit 1\n")
    done = set_up(clone)
    assert done.returncode == 1
    assert done.stderr == (
        "busmon set-up: rabbitmq-server is missing, and sudo asks for a password, which takes a terminal\n"
    )


def test_installing_is_said_first_and_done_through_sudo(clone: Path) -> None:
    program(clone / "bin/apt-get", "#!/bin/bash\n")
    program(clone / "bin/sudo", '#!/bin/bash\n[ "$1" = -n ] || echo "sudo $*"\n')
    done = set_up(clone, "--test")
    assert done.returncode == 0, done.stderr
    said, ran, ready = done.stdout.splitlines()
    assert said.startswith(
        f"busmon set-up: installing rabbitmq-server {FOR_TESTS} from the system's packages; no service"
    )
    assert ran == f"sudo .ci/install rabbitmq-server {FOR_TESTS}"
    assert ready == "busmon set-up: ready"


def test_a_browser_is_installed_with_a_broker_and_a_face_for_its_text(clone: Path) -> None:
    assert "rabbitmq-server chromium fonts-dejavu-core is missing" in set_up(clone, "--browser").stderr
    program(clone / "bin/chromium", "#!/bin/bash\n")
    program(clone / "bin/fc-list", "#!/bin/bash\necho DejaVu\n")
    assert "rabbitmq-server is missing" in set_up(clone, "--browser").stderr


def test_a_pip_that_cannot_reach_its_index_is_one_line(clone: Path) -> None:
    (clone / ".venv/.set-up").unlink()
    (clone / ".venv/pyvenv.cfg").write_text(f"command = python -m venv {clone.resolve()}/.venv\n")
    pip = '#!/bin/bash\n[[ "$*" != *install* ]] || { echo "WARNING: x"; echo "ERROR: no such host"; exit 1; }\n'
    program(clone / ".venv/bin/python", pip)
    done = set_up(clone)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "is PyPI reachable?" in done.stderr
    assert "ERROR: no such host" in done.stderr


def answer(clone: Path, obstacle: str = "", headers: str = "/opt/python/include/python3.13", hook: str = "") -> None:
    """Have the environment's Python name an obstacle to compiling, its headers' directory, and do this as the hook."""
    program(
        clone / ".venv/bin/python",
        f'#!/bin/bash\ncase "$*" in *find_obstacle*) echo "{obstacle}" ;; *get_path*) echo {headers} ;;'
        f" *hatchling*) {hook or ':'} ;; esac\n",
    )


def test_the_tests_get_a_compiler_and_the_headers_of_debians_python(clone: Path) -> None:
    answer(clone, "the C compiler gcc isn't installed", "/usr/include/python3.11")
    assert "gcc libc6-dev python3.11-dev prometheus " in set_up(clone, "--test").stderr
    assert "gcc libc6-dev python3.11-dev is missing" in set_up(clone, "--chart").stderr
    answer(clone, "the C compiler gcc isn't installed")
    assert "gcc libc6-dev prometheus " in set_up(clone, "--test").stderr
    assert "gcc libc6-dev is missing" in set_up(clone, BUSMON_COMPILE="required").stderr


def test_the_demo_takes_no_compiler_and_says_that_there_is_none(clone: Path) -> None:
    line = "busmon is built in pure Python, without its compiled hot path: the C compiler gcc isn't installed"
    answer(clone, "the C compiler gcc isn't installed", hook=f'[ $BUSMON_COMPILE = auto ]; echo "{line}" >&2')
    done = set_up(clone)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"busmon set-up: {line} (`make compile` installs what is missing)\nbusmon set-up: ready\n",
        "",
    )


def test_a_compilation_that_fails_is_one_line(clone: Path) -> None:
    answer(clone, hook="[ $BUSMON_COMPILE != required ] || { echo 'In file'; echo 'error: exit code 1'; exit 1; } >&2")
    assert set_up(clone).returncode == 0
    done = set_up(clone, BUSMON_COMPILE="required")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("busmon set-up: error: exit code 1 (whole log: ")
