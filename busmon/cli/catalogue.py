"""`busmon catalogue check|show`: what the fleet knows, and what its names break of Prometheus' conventions."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from busmon.cli.commands import Commands, add_command, add_group
from busmon.cli.options import add_settings, settings_from
from busmon.errors import CatalogueError
from busmon.extras import is_installed
from busmon.plurals import format_count
from busmon.suggestion import suggestion

if TYPE_CHECKING:
    from busmon.catalogue import Catalogue, Family

CHECK_EXAMPLES = """\
examples:
  busmon catalogue check                     the built-in families, and those of BUSMON_CATALOGUE
  busmon catalogue check search.toml         the same, and those of search.toml

Exit status 1: a name breaks a convention. Exit status 2: a file isn't a valid catalogue.
"""

SHOW_EXAMPLES = """\
examples:
  busmon catalogue show                      every family, by type
  busmon catalogue show queue_size           one family in full, with an example envelope
  busmon catalogue show --json               every family, for a program
"""


def add(commands: Commands) -> None:
    """Add `catalogue` and its two commands."""
    actions = add_group(
        commands,
        "catalogue",
        "show or check the metric families",
        "The metric families: the built-in ones, and those of BUSMON_CATALOGUE's files.",
    )
    _add_check(actions)
    _add_show(actions)


def _add_check(actions: Commands) -> None:
    check = add_command(
        actions, "check", "check the names, labels and units by Prometheus' conventions", CHECK_EXAMPLES
    )
    check.add_argument("files", metavar="FILE", nargs="*", type=Path, help="a catalogue file to check with the others")
    add_settings(check, "catalogue")
    check.set_defaults(run=run_check)


def _add_show(actions: Commands) -> None:
    show = add_command(
        actions,
        "show",
        "list the families, or show one in full",
        SHOW_EXAMPLES,
        description="List the families by type, or show one in full with an example envelope.",
    )
    show.add_argument("name", metavar="NAME", nargs="?", help="a family's name")
    form = show.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", help="print JSON")
    form.add_argument("--markdown", dest="form", action="store_const", const="markdown", help="print Markdown tables")
    add_settings(show, "catalogue")
    show.set_defaults(run=run_show)


def run_check(args: argparse.Namespace) -> int:
    """Print each finding on its line; 1 where there is one."""
    from busmon.catalogue.conventions import check

    catalogue = _load(args, args.files)
    findings = check(catalogue)
    for finding in findings:
        print(finding)
    found = format_count(len(findings), "finding") if findings else "no findings"
    print(f"{format_count(len(catalogue.families), 'family')}, {found}")
    return 1 if findings else 0


def run_show(args: argparse.Namespace) -> int:
    """Print the families, or the one that is named."""
    from busmon.catalogue import text

    catalogue = _load(args)
    if args.form == "json":
        families = [_find(catalogue, args.name)] if args.name else list(catalogue.families.values())
        documents = [text.document(catalogue, family) for family in families]
        print(json.dumps(documents[0] if args.name else documents, indent=2))
    elif args.name:
        print(text.in_full(catalogue, _find(catalogue, args.name)))
    elif args.form == "markdown":
        print(text.markdown(catalogue))
    elif sys.stdout.isatty() and is_installed("rich"):
        _print_tables(catalogue)
    else:
        print(text.lines(catalogue))
    return 0


def _load(args: argparse.Namespace, more: Sequence[Path] = ()) -> "Catalogue":
    from busmon.catalogue import Catalogue

    return Catalogue.load([*settings_from(args).catalogue, *more])


def _find(catalogue: "Catalogue", name: str) -> "Family":
    family = catalogue.families.get(name)
    if family is None:
        hint = suggestion(name, catalogue.families, "`busmon catalogue show` lists all families")
        raise CatalogueError(f"there is no metric family {name!r}; {hint}")
    return family


def _print_tables(catalogue: "Catalogue") -> None:
    """Print one table for each type, as wide as the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from busmon.catalogue import text

    console = Console(highlight=False)
    for type_, families in text.by_type(catalogue):
        table = Table(
            box=SIMPLE_HEAD, title=f"{type_} families", title_justify="left", title_style="bold", pad_edge=False
        )
        table.add_column("family", style="cyan", no_wrap=True)
        table.add_column("labels")
        table.add_column("help")
        table.add_column(text.PARTICULARS[type_], style="dim")
        for family in families:
            table.add_row(family.name, ", ".join(family.labelnames), family.help, text.particulars(family))
        console.print(table)
