"""Where a worker's time goes: flame graphs of one that drains a backlog, at 1, 5 and 100 samples an envelope.

    .venv/bin/python benchmarks/flame.py [--envelopes 60000] [--sizes 1,5,100] [--into docs]

py-spy samples the worker 250 times a second, from its start. Each picture is `flame-<samples>.svg`, in which the width
of a function is its share of the time; the time before the first delivery, most of it imports, is part of the picture.
"""

import argparse
import sys
from pathlib import Path

from consume import HERE, bench

RATE = 250


def main() -> None:
    """Record a picture for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envelopes", type=int, default=60_000)
    parser.add_argument("--sizes", default="1,5,100")
    parser.add_argument("--into", type=Path, default=Path("docs"))
    args = parser.parse_args()
    with bench() as side:
        for samples in map(int, args.sizes.split(",")):
            picture = args.into / f"flame-{samples}.svg"
            side.under = [str(Path(sys.executable).parent / "py-spy"), "record", "--rate", str(RATE), "--output"]
            side.under += [str(picture), "--"]
            side.run("busmon", max(args.envelopes // samples, 5_000), samples, "tables")
            picture.write_text(picture.read_text().replace(f"{HERE.parent}/", ""))  # where the clone stands is nobody's
            print(picture)


if __name__ == "__main__":
    main()
