"""`busmon rules build|show`: Prometheus' recording and alerting rules, written from one file of thresholds."""

import argparse
from pathlib import Path

EXAMPLES = """\
examples:
  busmon rules build                         write docker/prometheus/rules/ from the built-in thresholds
  busmon rules build --check                 say what would change, and exit with 1 if anything would
  busmon rules build --thresholds mine.toml /etc/prometheus/rules

mine.toml holds only what differs from `busmon rules thresholds`:
  [QueueBackup]
  messages = 5000
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `rules` and its commands."""
    rules = commands.add_parser(
        "rules",
        help="write the rules that Prometheus records and alerts by",
        description="The recording and alerting rules for Prometheus.",
    )
    actions = rules.add_subparsers(metavar="COMMAND", required=True)
    _add_build(actions)
    show = actions.add_parser(
        "show",
        help="list the alerts",
        description="List the alerts by tier.",
        epilog="examples:\n  busmon rules show | grep P1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    show.set_defaults(run=run_show)
    thresholds = actions.add_parser(
        "thresholds",
        help="print the built-in thresholds",
        description="Print the built-in thresholds: a TOML file, to take the tables from that are to change.",
        epilog="examples:\n  busmon rules thresholds > mine.toml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    thresholds.set_defaults(run=run_thresholds)


def _add_build(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    build = actions.add_parser(
        "build",
        help="write the rule files",
        description="Write the rule files of Prometheus into a directory.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        type=Path,
        default=Path("docker/prometheus/rules"),
        help="where to (default: docker/prometheus/rules)",
    )
    build.add_argument("--thresholds", metavar="FILE", type=Path, help="thresholds that differ from the built-in ones")
    build.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file would change")
    build.set_defaults(run=run_build)


def run_build(args: argparse.Namespace) -> int:
    """Write the files, or name those that aren't what would be written."""
    from busmon import rules

    files = rules.build(rules.Thresholds.load(args.thresholds))
    differing = rules.differences(args.directory, files)
    if not args.check:
        rules.write(args.directory, files)
    for path in differing:
        print(f"{path}: {'differs' if args.check else 'written'}")
    print(f"{len(files)} files, {len(differing)} {'differ' if args.check else 'changed'}")
    return 1 if args.check and differing else 0


def run_show(_: argparse.Namespace) -> int:
    """Print a line for each alert."""
    from busmon import rules

    files = rules.read(rules.Thresholds.load())
    alerts = [
        rule for groups in files.values() for group in groups for rule in group.rules if isinstance(rule, rules.Alert)
    ]
    width = max(len(alert.name) for alert in alerts)
    for alert in sorted(alerts, key=lambda alert: (alert.labels["tier"], alert.name)):
        print(f"{alert.labels['tier']:<4}  {alert.name:<{width}}  {alert.annotations['summary']}")
    return 0


def run_thresholds(_: argparse.Namespace) -> int:
    """Print the file."""
    from busmon.rules.thresholds import BUILT_IN

    print(BUILT_IN.read_text(encoding="utf-8"), end="")
    return 0
