"""How a command joins the command line: with its examples below its help, alone or under the name of a group.

What `--help` looks like is settled here and nowhere else. Imports nothing but argparse.
"""

import argparse
from typing import Any, NoReturn, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - it has no public name
"""What commands are added to: the whole command line's, or a group's."""


class Parser(argparse.ArgumentParser):
    """A parser, and that of each command below it: what is wrong is one line, and a flag has one spelling."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse what this command doesn't know, for the command line as a whole can't say which command that was."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """End with one line in place of the usage, which names every flag there is."""
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def add_command(
    commands: Commands, name: str, summary: str, examples: str, *, description: str = ""
) -> argparse.ArgumentParser:
    """Add a command.

    Args:
        commands: where to.
        name: what it is called by.
        summary: its line in the list of commands.
        examples: what stands below its help, line by line as given.
        description: what it does; the summary, as a sentence, where nothing is given.
    """
    return commands.add_parser(
        name,
        help=summary,
        description=description or f"{summary[0].upper()}{summary[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_group(commands: Commands, name: str, summary: str, description: str) -> Commands:
    """Add a name that only has commands under it, and what these are added to."""
    group = commands.add_parser(name, help=summary, description=description)
    return group.add_subparsers(metavar="COMMAND", required=True)
