"""`busmon dashboards build`: Grafana's dashboards, coloured by the thresholds that the alerts go by."""

import argparse

from busmon.cli import generated
from busmon.cli.commands import Commands, add_group

EXAMPLES = """\
examples:
  busmon dashboards build                    write docker/grafana/dashboards/ from the built-in thresholds
  busmon dashboards build --check            say what would change, and exit with 1 if anything would
  busmon dashboards build --thresholds mine.toml /var/lib/grafana/dashboards

mine.toml is the file that `busmon rules build` takes, so that alerts and colours agree.
"""


def add(commands: Commands) -> None:
    """Add `dashboards` and its command."""
    actions = add_group(commands, "dashboards", "write Grafana's dashboards", "The dashboards for Grafana.")
    build = generated.add_build(
        actions,
        "write the dashboards as JSON",
        EXAMPLES,
        description="Write the dashboards as the JSON that Grafana is provisioned with.",
        directory="docker/grafana/dashboards",
    )
    build.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the files, or name those that aren't what would be written."""
    from busmon import rules
    from busmon.errors import UserError

    thresholds = rules.Thresholds.load(args.thresholds)
    try:
        from busmon import dashboards
    except ModuleNotFoundError as error:
        raise UserError(
            "grafana-foundation-sdk is not installed; expected: pip install 'busmon-telemetry[dashboards]'"
        ) from error
    return generated.write(args, dashboards.build(thresholds))
