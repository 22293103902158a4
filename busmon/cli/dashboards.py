"""`busmon dashboards build`: Grafana's dashboards, coloured by the alerts' thresholds."""

import argparse

from busmon.cli import generated
from busmon.cli.commands import Commands, add_group, need_extra

EXAMPLES = """\
examples:
  busmon dashboards build                    write docker/grafana/dashboards/ from the built-in thresholds
  busmon dashboards build --check            list changes, and exit with 1 if there is one
  busmon dashboards build --thresholds mine.toml /var/lib/grafana/dashboards

mine.toml is the file for `busmon rules build`, so that alerts and colours agree.
"""


def add(commands: Commands) -> None:
    """Add `dashboards` and its command."""
    actions = add_group(commands, "dashboards", "write Grafana's dashboards", "The dashboards for Grafana.")
    build = generated.add_build(
        actions,
        "write the dashboards as JSON",
        EXAMPLES,
        description="Write the dashboards as JSON for Grafana's provisioning.",
        directory="docker/grafana/dashboards",
    )
    need_extra(build, "dashboards")
    build.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the files, or name those that aren't what would be written."""
    from busmon import dashboards, rules

    return generated.write(args, dashboards.build(rules.Thresholds.load(args.thresholds)))
