"""The common part of `rules build` and `dashboards build`: files made from the thresholds, written or only compared.

Both take the same arguments and print the same lines; what the files hold is theirs to say.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from busmon.cli.commands import Commands, add_command
from busmon.errors import UserError
from busmon.plurals import format_count


def add_build(
    commands: Commands, summary: str, examples: str, *, description: str, directory: str
) -> argparse.ArgumentParser:
    """Add a group's `build`, which writes to this directory where it isn't given another."""
    build = add_command(commands, "build", summary, examples, description=description)
    build.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        type=Path,
        help=f"directory to write to (default: {directory}, if it exists, as in a checkout)",
    )
    build.add_argument("--thresholds", metavar="FILE", type=Path, help="thresholds that differ from the built-in ones")
    build.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file would change")
    build.set_defaults(default_directory=Path(directory))
    return build


def write(args: argparse.Namespace, files: Mapping[str, str]) -> int:
    """Write the files, or with --check name those that would change; the exit status.

    Raises:
        UserError: no directory is given, and this is no checkout, which has one.
    """
    from busmon import rules

    directory = args.directory or args.default_directory
    if args.directory is None and not directory.is_dir():
        raise UserError(f"there is no {directory}/ here: name the directory to write to, as in `… build DIR`")
    differing = rules.differences(directory, files)
    if not args.check:
        rules.write(directory, files)
    for path in differing:
        print(f"{path}: {'differs' if args.check else 'written'}")
    verb = ("differs" if len(differing) == 1 else "differ") if args.check else "changed"
    print(f"{format_count(len(files), 'file')}, {len(differing)} {verb}")
    return 1 if args.check and differing else 0
