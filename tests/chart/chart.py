"""The Helm chart, rendered by helm, and the schemas that its objects have to meet.

`.ci/setup --chart` puts helm and the schemas of the Prometheus Operator's resources into the user's cache directory.
Those of Kubernetes' own objects come with the package kubernetes-validate. Nothing here asks the network.
"""

import importlib.util
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "docker/chart"
TOOLS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "busmon/chart"
OLDEST, NEWEST = "1.25.0", "1.34.0"
"""Versions of Kubernetes: Chart.yaml's first, and one whose schemas are final."""

CUSTOM = {"PodMonitor": "podmonitors", "PrometheusRule": "prometheusrules"}

Manifest = dict[str, Any]


def helm_program() -> str | None:
    """Find helm: of the path, or of the set-up."""
    return shutil.which("helm") or shutil.which("helm", path=TOOLS / "bin")


def obstacle() -> str:
    """Say why the chart can't be rendered here; empty where it can."""
    return "" if helm_program() else "helm is missing: .ci/setup --chart builds it where Go's module proxy is reachable"


def unchecked() -> str:
    """Say which schemas are missing; empty where none is."""
    missing = [name for name in CUSTOM.values() if not (TOOLS / f"{name}.yaml").is_file()]
    if importlib.util.find_spec("kubernetes_validate") is None:
        missing.append("kubernetes-validate")
    return f"schemas are missing ({', '.join(missing)}): .ci/setup --chart fetches them" if missing else ""


def helm(
    *arguments: str | Path, values: Manifest | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run helm with these values on its standard input."""
    program = helm_program()
    assert program
    given = () if values is None else ("--values", "-")
    done = subprocess.run(
        (program, *arguments, *given), input=yaml.safe_dump(values or {}), capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def render(values: Manifest | None = None, *, kubernetes: str = NEWEST, release: str = "busmon") -> list[Manifest]:
    """Render the chart's objects."""
    text = _rendered(yaml.safe_dump(values or {}), kubernetes, release)
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


@cache
def _rendered(values: str, kubernetes: str, release: str) -> str:
    where = ("--kube-version", kubernetes, "--namespace", "telemetry")
    return helm("template", *where, release, CHART, values=yaml.safe_load(values)).stdout


def only(documents: list[Manifest], kind: str) -> Manifest:
    """Pick the one object of a kind."""
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


def pod(document: Manifest) -> Manifest:
    """Pick the specification of an object's pod."""
    return document["spec"]["template"]["spec"]  # type: ignore[no-any-return]  # an object of YAML


def validate(document: Manifest, kubernetes: str) -> None:
    """Hold an object to its schema, which accepts no field that it doesn't name.

    Raises:
        Exception: the object isn't one of its kind.
    """
    if document["kind"] in CUSTOM:
        jsonschema.Draft7Validator(_custom(CUSTOM[document["kind"]])).validate(document)
        return
    import kubernetes_validate  # noqa: PLC0415 - part of `.ci/setup --chart`

    kubernetes_validate.validate(document, kubernetes.rpartition(".")[0], strict=True)


@cache
def _custom(name: str) -> Manifest:
    definition = yaml.safe_load((TOOLS / f"{name}.yaml").read_text())
    schema: Manifest = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    closed: Manifest = _closed(schema)
    return closed | {"properties": {**closed["properties"], "metadata": {"type": "object"}}}


def _closed(schema: Any) -> Any:
    """Have a structural schema refuse unknown fields, as an API server does that validates strictly."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    names_its_fields = isinstance(schema.get("properties"), dict)
    return closed | ({"additionalProperties": False} if names_its_fields and not is_open else {})


def size(document: Manifest) -> int:
    """Return the bytes of an object as an API server takes it."""
    return len(json.dumps(document, ensure_ascii=False).encode())
