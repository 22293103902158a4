"""`busmon registry rejected`: the last samples that were not counted, and why."""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from busmon.cli import registry_dir
from busmon.cli.commands import Commands, add_command
from busmon.cli.options import add_settings, settings_from
from busmon.plurals import ago
from busmon.printable import escape

if TYPE_CHECKING:
    from busmon.registry.storage.rejected_samples import RejectedSample

EXAMPLES = """\
examples:
  busmon registry rejected                   the last rejected samples, newest first: metric, value and reason
  busmon registry rejected --agent writer    of one agent
  busmon registry rejected --reason label_mismatch
  busmon registry rejected --json            the same, for a program

Each shard keeps the last 5 of each reason and agent, for at most 100 such pairs, with long texts cut. They are written
once a second and survive restarts. busmon_samples_rejected_total counts all rejected samples. It
takes no lock, so a fleet may run in the directory.
"""


def add(actions: Commands) -> None:
    """Add the command."""
    rejected = add_command(
        actions,
        "rejected",
        "show the last rejected samples with the reason",
        EXAMPLES,
        description="Show the last rejected samples of each reason and agent: metric, labels, value and detail.",
    )
    rejected.add_argument("--agent", metavar="NAME", help="only samples of this agent")
    rejected.add_argument("--reason", metavar="WORD", help="only samples with this reason, for example label_mismatch")
    rejected.add_argument("--json", action="store_true", help="print JSON")
    add_settings(rejected, "registry_dir")
    rejected.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the samples."""
    from busmon.registry.storage.rejected_samples import RejectedReader

    directory = settings_from(args).registry_dir
    with registry_dir.use(directory):
        found = RejectedReader(directory).read()
    wanted = [
        sample
        for sample in found.samples
        if args.agent in {None, sample.agent} and args.reason in {None, sample.reason}
    ]
    if args.json:
        print(json.dumps({"samples": [asdict(sample) for sample in wanted], "skipped": found.skipped}, indent=2))
        return 0
    print("\n".join(_blocks(wanted, time.time())) or _nothing(found.samples))
    for file, why in found.skipped.items():
        print(escape(f"{file}: {why}"))
    return 0


def _blocks(samples: Sequence["RejectedSample"], now: float) -> Iterator[str]:
    for sample in samples:
        labels = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sample.labels.items())
        series = f"{sample.name or '(no name)'}{f'{{{labels}}}' if labels else ''} {sample.value}"
        yield escape(f"{ago(now - sample.at)}  {sample.agent}  {sample.reason}  {series}".rstrip())
        yield escape(f"    {sample.why}")


def _nothing(samples: Sequence["RejectedSample"]) -> str:
    if not samples:
        return "there is no rejected sample"
    agents, reasons = ({getattr(sample, member) for sample in samples} for member in ("agent", "reason"))
    known = f"agents: {', '.join(sorted(agents))}; reasons: {', '.join(sorted(reasons))}"
    return escape(f"there is no rejected sample of that agent and reason; {known}")
