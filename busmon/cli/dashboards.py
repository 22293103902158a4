"""`busmon dashboards build`: Grafana's dashboards, coloured by the thresholds that the alerts go by."""

import argparse
from pathlib import Path

EXAMPLES = """\
examples:
  busmon dashboards build                    write docker/grafana/dashboards/ from the built-in thresholds
  busmon dashboards build --check            say what would change, and exit with 1 if anything would
  busmon dashboards build --thresholds mine.toml /var/lib/grafana/dashboards

mine.toml is the file that `busmon rules build` takes, so that alerts and colours agree.
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `dashboards` and its command."""
    dashboards = commands.add_parser(
        "dashboards", help="write Grafana's dashboards", description="The dashboards for Grafana."
    )
    actions = dashboards.add_subparsers(metavar="COMMAND", required=True)
    build = actions.add_parser(
        "build",
        help="write the dashboards as JSON",
        description="Write the dashboards as the JSON that Grafana is provisioned with.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        type=Path,
        default=Path("docker/grafana/dashboards"),
        help="where to (default: docker/grafana/dashboards)",
    )
    build.add_argument("--thresholds", metavar="FILE", type=Path, help="thresholds that differ from the built-in ones")
    build.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file would change")
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
    files = dashboards.build(thresholds)
    differing = rules.differences(args.directory, files)
    if not args.check:
        rules.write(args.directory, files)
    for path in differing:
        print(f"{path}: {'differs' if args.check else 'written'}")
    print(f"{len(files)} files, {len(differing)} {'differ' if args.check else 'changed'}")
    return 1 if args.check and differing else 0
