"""`-l KEY=VALUE`, once for each label, as `publish` and `tail` take it."""

import argparse

from busmon.errors import UserError


def add_labels(command: argparse.ArgumentParser, meaning: str) -> None:
    """Add the flag; `labels_from` reads it."""
    command.add_argument("-l", "--label", dest="labels", metavar="KEY=VALUE", action="append", default=[], help=meaning)


def labels_from(args: argparse.Namespace, command: str) -> dict[str, str]:
    """Parse labels by key; the last value of a key applies.

    Raises:
        UserError: one isn't KEY=VALUE; the line begins with the command.
    """
    return dict(_label(text, command) for text in args.labels)


def _label(text: str, command: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"{command}: -l {text!r}: expected KEY=VALUE")
    return key, value
