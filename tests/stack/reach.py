"""Dependencies of rules: an alert needs the recorded series that it names, and these need others.

Whoever runs a few rules alone, as a test or a benchmark does, needs these with them. Pure.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import replace

from busmon.rules.definitions import Group, Recording

_RECORDED = re.compile(r"\b\w+:\w+:\w+")


def reach(groups: Iterable[Group], names: Iterable[str]) -> set[str]:
    """Collect these rules and all recorded series that they need, directly or through others."""
    expressions = {rule.name: rule.expr for group in groups for rule in group.rules}
    open_, closed = set(names), set[str]()
    while open_:
        name = open_.pop()
        closed.add(name)
        open_ |= set(_RECORDED.findall(expressions.get(name, ""))) - closed
    return closed


def only(groups: Iterable[Group], names: Collection[str]) -> list[Group]:
    """Keep these rules alone, and drop groups that become empty."""
    left = [replace(group, rules=tuple(rule for rule in group.rules if rule.name in names)) for group in groups]
    return [group for group in left if group.rules]


def levels(groups: Iterable[Group], names: Iterable[str]) -> list[list[Group]]:
    """List the recordings that these rules need in steps: each needs only those of earlier steps."""
    groups = list(groups)
    kept = reach(groups, names)
    open_ = {
        rule.name: set(_RECORDED.findall(rule.expr)) & kept
        for group in groups
        for rule in group.rules
        if isinstance(rule, Recording) and rule.name in kept
    }
    steps = []
    while ready := {name for name, needs in open_.items() if not needs & set(open_)}:
        steps.append(only(groups, ready))
        open_ = {name: needs for name, needs in open_.items() if name not in ready}
    return steps
