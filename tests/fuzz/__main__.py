"""`python -m tests.fuzz`: fuzz in slices until a time or the budget is reached, and say how far it has come.

python -m tests.fuzz                        a slice of each target, 9 minutes in all
python -m tests.fuzz --until-budget         slices until both budgets are reached; it resumes where it was ended
python -m tests.fuzz --target bodies --minutes 2
python -m tests.fuzz replay DIRECTORY       the inputs of a fault again, without atheris
BUSMON_PURE_PYTHON=1 python -m tests.fuzz minimise
                                            make the repository's corpus of the state's
"""

import argparse
import subprocess
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import structlog
from rich.console import Console
from rich.table import Table

from busmon import compiled
from tests.fuzz import corpus
from tests.fuzz.progress import Progress

if TYPE_CHECKING:
    from tests.fuzz.bodies import Bodies

ROOT = Path(__file__).parents[2]
_COVERED_ROOMS = ("wire", "registry/admission", "registry/celery", "registry/fold", "registry/ledger")
COVERED = tuple(str(ROOT / "busmon" / room) for room in _COVERED_ROOMS)
Step = tuple[CodeType, int, int]
STATE = ROOT / ".state" / "fuzz"
BUDGETS = {"bodies": 10_000_000, "directories": 100_000}
SHARES = {"bodies": 0.6, "directories": 0.4}
"""Of a slice's time."""
GUIDED_SHARE = 0.33
MINUTES = 9.0
CORPUS_BYTES = 400_000
LONGEST_INPUT = 1500


def main() -> int:
    """Parse the arguments and fuzz; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--state", type=Path, default=STATE, help="where progress, corpus and faults stay")
    parser.add_argument("--target", choices=BUDGETS, action="append", help="one target alone; all by default")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of all targets' slices (default %(default)s)")
    parser.add_argument("--until-budget", action="store_true", help="go on until the budgets are reached")
    commands = parser.add_subparsers(dest="command")
    replaying = commands.add_parser("replay", help="try a fault's inputs again")
    replaying.add_argument("directory", type=Path)
    commands.add_parser("minimise", help="write the repository's corpus of bodies")
    given = parser.parse_args()
    if given.command == "replay":
        return replay(given.directory)
    if given.command == "minimise":
        if compiled.is_in_use():
            parser.error("only lines of Python can be traced; run it with BUSMON_PURE_PYTHON=1")
        return minimise(given.state / "bodies")
    targets = given.target or [*BUDGETS]
    is_sound = fuzz(given.state, targets, given.minutes)
    while is_sound and given.until_budget and not is_reached(given.state, targets):
        is_sound = fuzz(given.state, targets, given.minutes)
    return not is_sound or any(Progress.read(given.state / name / "progress.json").faults for name in targets)


def fuzz(state: Path, targets: list[str], minutes: float) -> bool:
    """Fuzz each target for its share of the time; return whether no promise was broken."""
    total = sum(SHARES[name] for name in targets)
    is_sound = True
    for name in targets:
        if Progress.read(state / name / "progress.json").inputs < BUDGETS[name] or len(targets) == 1:
            is_sound &= _fuzz_one(state / name, name, max(1, round(60 * minutes * SHARES[name] / total)))
    Console(width=120).print(table(state, targets))
    return is_sound


def is_reached(state: Path, targets: list[str]) -> bool:
    """Return whether every target has tried as many inputs as its budget asks for."""
    return all(Progress.read(state / name / "progress.json").inputs >= BUDGETS[name] for name in targets)


def _fuzz_one(state: Path, name: str, seconds: int) -> bool:
    """Have coverage guide a third of the time, and mutate the corpus for the rest; return whether both were sound."""
    (state / "faults").mkdir(parents=True, exist_ok=True)
    prepare(state, name)
    guided = round(seconds * GUIDED_SHARE)
    seed = str(Progress.read(state / "progress.json").slices)
    return all(
        _run(state, module, name, str(state), *arguments)
        for module, *arguments in (("guided", str(guided)), ("mutated", str(seconds - guided), seed))
    )


def _run(state: Path, module: str, *arguments: str) -> bool:
    with (state / "log").open("ab") as log:
        command = [sys.executable, "-P", "-m", f"tests.fuzz.{module}", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=_environment(state, module), stderr=log, check=False)
    if done.returncode:
        told = f"{module} slice ended with status {done.returncode}; see {state / 'faults'} and {state / 'log'}"
        sys.stdout.write(f"{arguments[0]}: the {told}\n")
    return done.returncode == 0


def _environment(state: Path, module: str) -> dict[str, str]:
    """Return a slice's environment: coverage sees the branches of Python alone, and mutations try what is compiled."""
    temporary = state / "temporary"
    subprocess.run(["rm", "-rf", str(temporary)], check=True)
    temporary.mkdir()
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(temporary),
        "HOME": str(state),
        "BUSMON_PURE_PYTHON": "1" if module == "guided" else "0",
    }


def prepare(state: Path, name: str) -> None:
    """Put what a target starts with into its corpus."""
    directory = state / "corpus"
    directory.mkdir(exist_ok=True)
    if name == "bodies":
        for number, data in enumerate([*corpus.seeds(), *corpus.read()]):
            (directory / f"seed-{number}").write_bytes(data)
        (state / "tokens").write_text("".join(map(_to_token, corpus.tokens())))


def _to_token(word: bytes) -> str:
    """Return a line of libFuzzer's dictionary."""
    return '"{}"\n'.format("".join(f"\\x{byte:02x}" for byte in word))


def replay(directory: Path) -> int:
    """Try the inputs of a fault in order; the fault's traceback is shown."""
    from tests.fuzz import bodies, directories  # noqa: PLC0415 - they take a second

    inputs = [path.read_bytes() for path in sorted(directory.glob("[0-9][0-9]"))]
    if "bodies" in directory.parts:
        bodies.replay(inputs)
    else:
        directories.replay(inputs)
    sys.stdout.write(f"{len(inputs)} inputs keep every promise\n")
    return 0


def minimise(state: Path) -> int:
    """Write down the fewest short inputs that reach all lines, from all lines before them, that the corpus reaches."""
    from tests.fuzz.bodies import Bodies  # noqa: PLC0415 - it takes a second

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    found = sorted({*corpus.read(), *(path.read_bytes() for path in (state / "corpus").iterdir())}, key=len)
    reached: set[Step] = set()
    chosen, size = [], 0
    with Bodies() as bodies:
        for data in found:
            if len(data) > LONGEST_INPUT or size > CORPUS_BYTES:
                break
            if fresh := steps(bodies, data) - reached:
                reached |= fresh
                chosen.append(data)
                size += 2 * len(data)
    corpus.write(chosen)
    sys.stdout.write(f"{len(chosen)} of {len(found)} inputs are in {corpus.BODIES}\n")
    return 0


def steps(bodies: "Bodies", data: bytes) -> set[Step]:
    """Return each step from a line of a covered file to the next that an input takes."""
    taken: set[Step] = set()
    before: dict[FrameType, int] = {}

    def note(frame: FrameType, _event: str, _argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(COVERED):
            return None
        taken.add((frame.f_code, before.get(frame, 0), frame.f_lineno))
        before[frame] = frame.f_lineno
        return note

    sys.settrace(note)
    try:
        bodies.take(data)
    finally:
        sys.settrace(None)
    return taken


def table(state: Path, targets: list[str]) -> Table:
    """Word the progress of each target."""
    drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("target", "inputs", "guided", "of", "slices", "minutes", "slowest, s", "faults"):
        drawn.add_column(heading, justify="left" if heading == "target" else "right")
    for name in targets:
        reached = Progress.read(state / name / "progress.json")
        drawn.add_row(
            name,
            f"{reached.inputs:,}",
            f"{reached.guided:,}",
            f"{BUDGETS[name]:,}",
            f"{reached.slices}",
            f"{reached.seconds / 60:,.0f}",
            f"{reached.slowest_seconds:.2f}",
            f"{reached.faults}",
        )
        for outcome, inputs in sorted(reached.outcomes.items(), key=lambda pair: -pair[1])[:40]:
            drawn.add_row(f"  {outcome}", f"{inputs:,}")
    return drawn


if __name__ == "__main__":
    sys.exit(main())
