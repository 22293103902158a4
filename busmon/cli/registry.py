"""`busmon registry show|rejected|drop`: what the shards' files hold by which budgets, and the removal of series."""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from busmon.cli import moving, registry_dir, rejected
from busmon.cli.commands import Commands, add_command, add_group
from busmon.cli.options import add_settings, settings_from
from busmon.errors import RegistryError, ShardOwnedError, UserError
from busmon.plurals import format_count
from busmon.printable import escape
from busmon.suggestion import suggestion

if TYPE_CHECKING:
    from busmon.catalogue.family import Family
    from busmon.registry.admission.families import Families
    from busmon.registry.operator.requests import Request
    from busmon.settings import Settings

SHOW_EXAMPLES = """\
examples:
  busmon registry show                       shards, families, and the use of their budgets
  busmon registry show --json                the same, for a program

It takes no lock, so a fleet may run in the directory.
"""

DROP_EXAMPLES = """\
examples:
  busmon registry drop queue_size            all series of the family
  busmon registry drop queue_size -l queue=tasks
  busmon registry drop queue_size --dry-run  print their number only
  busmon registry drop --agent telegraf-1    the metrics that an agent had adopted, and its label values

The owner of each shard removes its series within two seconds. The command opens shards without an owner itself. A
series that is published again starts at 0. After a family's last series, a changed catalogue may redefine the family.
"""

_POLL_SECONDS = 0.05


def add(commands: Commands) -> None:
    """Add `registry` and its commands."""
    actions = add_group(
        commands,
        "registry",
        "show shards, series and rejected samples, or remove series",
        "The registry directory: its series and budgets, rejected samples, and the removal of series.",
    )
    _add_show(actions)
    rejected.add(actions)
    _add_drop(actions)
    moving.add(actions)


def _add_show(actions: Commands) -> None:
    show = add_command(
        actions,
        "show",
        "list shards and families with their series and budgets",
        SHOW_EXAMPLES,
        description="List the shards and the families, with their series, budgets and last update.",
    )
    show.add_argument("--json", action="store_true", help="print JSON")
    add_settings(
        show,
        "registry_dir",
        "catalogue",
        "max_label_values",
        "max_series_per_family",
        "max_series",
        "max_adopted_families",
    )
    show.set_defaults(run=run_show)


def _add_drop(actions: Commands) -> None:
    drop = add_command(
        actions,
        "drop",
        "remove series, or a whole family",
        DROP_EXAMPLES,
        description="Remove a family's series, or those with certain labels, from every shard.",
    )
    drop.add_argument("name", metavar="NAME", nargs="?", help="the family's name, as in `busmon registry show`")
    drop.add_argument(
        "--agent", metavar="NAME", help="remove this agent's adopted metrics and label values, instead of a family"
    )
    drop.add_argument("--user", metavar="NAME", help="with --agent: only of this user")
    drop.add_argument(
        "-l",
        "--label",
        dest="labels",
        metavar="NAME=VALUE",
        action="append",
        type=_label,
        default=[],
        help="only series with this label; may be repeated",
    )
    drop.add_argument("--dry-run", action="store_true", help="print what would be removed, and remove nothing")
    drop.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="time to wait (default: 30)")
    add_settings(drop, "registry_dir", "catalogue")
    drop.set_defaults(run=run_drop)


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} isn't NAME=VALUE")
    return name, value


# -- show -------------------------------------------------------------------------------------------------------------


def run_show(args: argparse.Namespace) -> int:
    """Print what the directory holds."""
    from busmon.catalogue import Catalogue
    from busmon.registry.admission.budgets import Budgets
    from busmon.registry.operator import inventory

    settings = settings_from(args)
    catalogue, budgets = Catalogue.load(settings.catalogue), Budgets.of(settings)
    with registry_dir.use(settings.registry_dir):
        found = inventory.take_inventory(settings.registry_dir, catalogue, budgets, settings.max_adopted_families)
    print(json.dumps(inventory.document(found), indent=2) if args.json else inventory.text(found, time.time()))
    return 0


# -- drop -------------------------------------------------------------------------------------------------------------


def run_drop(args: argparse.Namespace) -> int:
    """Remove series from every shard, and print how many."""
    settings = settings_from(args)
    if (args.name is None) == (args.agent is None) or (args.agent is None and args.user is not None):
        raise UserError("expected a family's NAME, or --agent NAME with an optional --user NAME")
    with registry_dir.use(settings.registry_dir, is_written=not args.dry_run):
        removed = _drop(args, settings)
    print(f"{removed} {'would be removed' if args.dry_run else 'removed'}")
    return 0


def _drop(args: argparse.Namespace, settings: "Settings") -> str:
    """Remove series, or count them in a dry run; return how many of which name."""
    from busmon.catalogue import Catalogue
    from busmon.registry.admission.families import Families

    families = Families(settings.registry_dir, Catalogue.load(settings.catalogue), settings.max_adopted_families)
    if args.agent is not None:
        return _drop_agent(args, settings.registry_dir, families)
    labels = dict(args.labels)
    family = _find(families, args.name)
    if unknown := sorted(labels.keys() - {*family.labelnames}):
        raise UserError(f"{args.name} has no label {unknown[0]!r}; expected one of: {', '.join(family.labelnames)}")
    if args.dry_run:
        removed = _count(settings.registry_dir, family, labels)
    else:
        removed = _ask_owners(settings.registry_dir, families, args.name, labels, args.timeout)
    shards = sum(1 for series in removed.values() if series)
    return f"{sum(removed.values())} series of {escape(args.name)} in {format_count(shards, 'shard')}"


def _drop_agent(args: argparse.Namespace, directory: Path, families: "Families") -> str:
    """Remove what an agent took from every shard, or count it in a dry run; return how much."""
    from busmon.registry.admission import survey

    if args.labels:
        raise UserError("--label can't be combined with --agent, which removes everything that the agent took")
    took = survey.count_taken(directory, families, args.agent, args.user)
    if not args.dry_run:
        _ask_owners(directory, families, "", {}, args.timeout, agent=args.agent, user=args.user)
    what = f"{took.series} series of {took.metrics} metrics and {took.values} label values"
    return f"{what} of {escape(args.agent)}"


def _find(families: "Families", name: str) -> "Family":
    written = {family.name: family for family in families.frozen()}
    if name not in written:
        hint = suggestion(name, written, "`busmon registry show` lists all families")
        raise UserError(f"no family {name!r} has series; {hint}")
    return written[name]


def _count(directory: Path, family: "Family", labels: Mapping[str, str]) -> dict[int, int]:
    from busmon.registry.admission import survey

    found = dict.fromkeys(survey.shards(directory), 0)
    for series in survey.series(directory, [family])[family.name]:
        found[series.shard] += labels.items() <= series.labels
    return found


def _ask_owners(  # noqa: PLR0913 - a family with labels, or an agent with its user
    directory: Path,
    families: "Families",
    name: str,
    labels: Mapping[str, str],
    timeout_seconds: float,
    *,
    agent: str = "",
    user: str | None = None,
) -> dict[int, int]:
    """Let every shard's owner remove them, or remove them without an owner; return their number by shard."""
    from busmon.registry.admission import survey
    from busmon.registry.operator import requests

    shards, deadline = survey.shards(directory), time.time() + timeout_seconds
    request = requests.ask(directory, name, labels, deadline, agent=agent, user=user)
    try:
        while missing := [shard for shard in shards if shard not in requests.answers(directory, request)]:
            if time.time() > deadline:
                raise RegistryError(
                    f"shard {missing[0]} didn't answer in {timeout_seconds:g} s; `busmon registry show`"
                )
            for shard, removed in _drop_unowned(directory, families, missing, request):
                requests.answer(directory, request, shard, removed)
            time.sleep(_POLL_SECONDS)
        return requests.answers(directory, request)
    finally:
        requests.withdraw(directory, request)


def _drop_unowned(
    directory: Path, families: "Families", shards: list[int], request: "Request"
) -> Iterator[tuple[int, int]]:
    """Remove series from shards without an owner, and return their number by shard."""
    from busmon.registry.operator import removal
    from busmon.registry.shard.shard import Shard

    for number in shards:
        try:
            shard = Shard.open(directory, number, families)
        except ShardOwnedError:
            continue
        with closing(shard):
            yield number, removal.carry_out(shard, request, time.time())
