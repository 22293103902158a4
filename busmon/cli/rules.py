"""`busmon rules build|show`: Prometheus' recording and alerting rules, written from one file of thresholds."""

import argparse

from busmon.cli import generated
from busmon.cli.commands import Commands, add_command, add_group

BUILD_EXAMPLES = """\
examples:
  busmon rules build                         write docker/prometheus/rules/ from the built-in thresholds
  busmon rules build --check                 list changes, and exit with 1 if there is one
  busmon rules build --thresholds mine.toml /etc/prometheus/rules

mine.toml contains only changes to the output of `busmon rules thresholds`:
  [QueueBackup]
  messages = 5000
"""

SHOW_EXAMPLES = """\
examples:
  busmon rules show | grep P1
"""

THRESHOLDS_EXAMPLES = """\
examples:
  busmon rules thresholds > mine.toml
"""


def add(commands: Commands) -> None:
    """Add `rules` and its commands."""
    actions = add_group(
        commands,
        "rules",
        "write Prometheus' recording and alerting rules",
        "The recording and alerting rules for Prometheus.",
    )
    build = generated.add_build(
        actions,
        "write the rule files",
        BUILD_EXAMPLES,
        description="Write Prometheus' rule files into a directory.",
        directory="docker/prometheus/rules",
    )
    build.set_defaults(run=run_build)
    show = add_command(actions, "show", "list the alerts", SHOW_EXAMPLES, description="List the alerts by tier.")
    show.set_defaults(run=run_show)
    thresholds = add_command(
        actions,
        "thresholds",
        "print the built-in thresholds",
        THRESHOLDS_EXAMPLES,
        description="Print the built-in thresholds as TOML. Copy the tables that you change.",
    )
    thresholds.set_defaults(run=run_thresholds)


def run_build(args: argparse.Namespace) -> int:
    """Write the files, or name those that aren't what would be written."""
    from busmon import rules

    return generated.write(args, rules.build(rules.Thresholds.load(args.thresholds)))


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
