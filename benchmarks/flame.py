"""Where a worker's time goes: flame graphs of one that drains a backlog, at 1, 5 and 100 samples an envelope.

    .venv/bin/python benchmarks/flame.py [--envelopes 250000] [--sizes 1,5,100] [--into docs]

py-spy samples the worker 1000 times a second, from its start. Each picture is `flame-<samples>.svg`, in which the width
of a function is its share of the time; the time before the first delivery, most of it imports, is part of the picture.
"""

import argparse
import re
import sys
from pathlib import Path

from consume import HERE, bench

RATE = 1000
FEWEST_ENVELOPES = 12_500

_TITLE = re.compile(r'(<text id="title"[^>]*>)[^<]*')


def main() -> None:
    """Record a picture for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envelopes", type=int, default=250_000)
    parser.add_argument("--sizes", default="1,5,100")
    parser.add_argument("--into", type=Path, default=Path("docs"))
    args = parser.parse_args()
    with bench() as side:
        for samples in map(int, args.sizes.split(",")):
            picture = args.into / f"flame-{samples}.svg"
            side.under = [str(Path(sys.executable).parent / "py-spy"), "record", "--rate", str(RATE), "--output"]
            side.under += [str(picture), "--"]
            side.run("busmon", max(args.envelopes // samples, FEWEST_ENVELOPES), samples, "tables")
            picture.write_text(named(picture.read_text(), samples))
            print(picture)


def named(picture: str, samples: int) -> str:
    """The picture with a title, in place of py-spy's command line, and without where the clone stands."""
    title = f"One worker, {samples} {'sample' if samples == 1 else 'samples'} an envelope"
    return _TITLE.sub(rf"\g<1>{title}", picture).replace(f"{HERE.parent}/", "")


if __name__ == "__main__":
    main()
