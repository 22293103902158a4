"""The flame graphs of a worker that drains a backlog, at 1, 5 and 100 samples an envelope.

    .venv/bin/python benchmarks/flame.py [--envelopes 250000] [--sizes 1,5,100] [--into docs]

py-spy samples the worker 1000 times a second, from its start. Each picture is `flame-<samples>.svg`, in which the width
of a function is its share of the time; the time before the first delivery, most of it imports, is part of the picture.
"""

import argparse
import re
from pathlib import Path

import entry
from consume import HERE, bench

from busmon.plurals import format_count

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
    profiler = entry.require_program("py-spy")
    with bench() as side:
        for samples in map(int, args.sizes.split(",")):
            picture = args.into / f"flame-{samples}.svg"
            side.under = [profiler, "record", "--rate", str(RATE), "--output"]
            side.under += [str(picture), "--"]
            side.run("busmon", max(args.envelopes // samples, FEWEST_ENVELOPES), samples, "tables")
            picture.write_text(write_title(picture.read_text(), samples))
            print(picture)


def write_title(picture: str, samples: int) -> str:
    """Replace py-spy's command line by a title, and remove the path of the clone."""
    title = f"One worker, {format_count(samples, 'sample')} an envelope"
    return _TITLE.sub(rf"\g<1>{title}", picture).replace(f"{HERE.parent}/", "")


if __name__ == "__main__":
    entry.run(main)
