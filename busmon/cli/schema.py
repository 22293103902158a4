"""`busmon schema`: the wire format's JSON Schemas, whole in one document each."""

import argparse
import importlib.resources
import json
from typing import Any

from busmon.cli.commands import Commands, add_command

EXAMPLES = """\
examples:
  busmon schema > envelope.schema.json       the schema of a body
  busmon schema sample                       the schema of a line of `busmon publish -`
"""


def add(commands: Commands) -> None:
    """Add `schema`."""
    schema = add_command(
        commands,
        "schema",
        "print the JSON Schema of an envelope or of a sample",
        EXAMPLES,
        description="Print the JSON Schema (2020-12) of an envelope or of one sample.",
    )
    schema.add_argument("name", nargs="?", choices=("envelope", "sample"), default="envelope", help="default: envelope")
    schema.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the schema."""
    print(json.dumps(schema(args.name), indent=2))
    return 0


def schema(name: str) -> dict[str, Any]:
    """Return a self-contained schema: the sample's is embedded in the envelope's."""
    document = _read(name)
    if name == "envelope":
        document["$defs"]["sample"] = _read("sample")
    return document


def _read(name: str) -> dict[str, Any]:
    text = (importlib.resources.files("busmon.wire") / "schema" / f"{name}.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document
