"""A slice that coverage guides, in its own process: `python -m tests.fuzz.guided TARGET STATE SECONDS [OPTION...]`.

atheris rewrites the modules of busmon as they are imported, so that libFuzzer sees which branches an input takes. The
inputs that reach something new stay in the state's corpus, from which `mutated.py` makes many more.
"""

import sys
from pathlib import Path

import atheris
import structlog

from tests.fuzz.inputs import Inputs, Target

COVERED = ["busmon.wire", "busmon.registry", "busmon.fleet.worker.intake", "busmon.catalogue.adoption"]
HANG_SECONDS = 300
"""Elapsed; a target's own alarm, of processor time, comes first unless C code hangs."""
MAX_RSS_MIB = 3000
MAX_INPUT_BYTES = 4096


def make_target(name: str) -> Target:
    """Import a target so that its coverage is seen."""
    with atheris.instrument_imports(include=COVERED):
        if name == "bodies":
            from tests.fuzz.bodies import Bodies  # noqa: PLC0415 - imported where atheris rewrites it

            return Bodies()
        from tests.fuzz.directories import Directories  # noqa: PLC0415 - as above

        return Directories()


def main(name: str, state: str, seconds: str, *options: str) -> None:
    """Fuzz for so long; `options` are libFuzzer's."""
    directory = Path(state)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    inputs = Inputs(make_target(name), directory, is_guided=True)
    tokens = directory / "tokens"
    arguments = (
        f"-max_total_time={seconds}",
        f"-timeout={HANG_SECONDS}",
        f"-rss_limit_mb={MAX_RSS_MIB}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-artifact_prefix={directory}/faults/",
        *([f"-dict={tokens}"] if tokens.exists() else []),
        *options,
        str(directory / "corpus"),
    )
    atheris.Setup([sys.argv[0], *arguments], inputs.take)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
