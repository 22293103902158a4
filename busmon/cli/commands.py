"""How a command joins the command line: with its examples below its help, alone or under the name of a group.

What `--help` looks like is settled here and nowhere else. Imports nothing heavy.
"""

import argparse
import re
import shutil
import textwrap
from typing import Any, NoReturn, TypeAlias

from busmon.errors import MissingExtraError
from busmon.extras import require
from busmon.printable import escape
from busmon.suggestion import suggestion

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - it has no public name
"""The commands of the whole command line, or of a group."""


MAX_WIDTH = 100
"""Columns of a help text, as in a manual page: longer lines are hard to read, however wide the terminal is."""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """A help text as wide as the terminal, up to `MAX_WIDTH`; descriptions and examples keep their lines."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"width": min(shutil.get_terminal_size().columns - 2, MAX_WIDTH), **options})

    def _split_lines(self, text: str, width: int) -> list[str]:
        return _Wrapper(width, break_on_hyphens=False).wrap(" ".join(text.split()))


class _Wrapper(textwrap.TextWrapper):
    """The lines of a flag's help: a list breaks behind its commas, and no word in the middle."""

    wordsep_simple_re = re.compile(r"(\s+|(?<=,)(?=[a-z]))")


class Parser(argparse.ArgumentParser):
    """A parser, and that of each command below it: what is wrong is one line, and a flag has one spelling."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": Formatter, **options})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse what this command doesn't know, for the command line as a whole can't say which command that was."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = suggestion(unknown[0].partition("=")[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{near and f'; {near}'}")
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that isn't among the choices, and suggest the one that was meant."""
        choices = [*map(str, action.choices or ())]
        if choices and value not in action.choices:  # type: ignore[operator]  # choices are a container
            near = suggestion(str(value), choices, f"choose from {', '.join(choices)}")
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}; {near}")

    def error(self, message: str) -> NoReturn:
        """End with one line in place of the usage, which names every flag there is; a missing extra comes first."""
        try:
            if extra := self.get_default("extra"):
                require(extra, f"`{self.prog}`")
        except MissingExtraError as error:
            self.exit(error.exit_status, f"busmon: {error}\n")
        self.exit(2, escape(f"{self.prog}: {message}; see `{self.prog} --help`") + "\n")


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
    )


def need_extra(command: argparse.ArgumentParser, extra: str) -> None:
    """Have a command end in one line, before it runs, where an extra of the package isn't installed."""
    command.set_defaults(extra=extra, command=command.prog)


def add_group(commands: Commands, name: str, summary: str, description: str) -> Commands:
    """Add a name that only has commands under it, and what these are added to."""
    group = commands.add_parser(name, help=summary, description=description)
    group.epilog = f"`{group.prog} COMMAND --help` describes a command, with examples."
    return group.add_subparsers(metavar="COMMAND", required=True)
