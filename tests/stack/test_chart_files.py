"""The chart's files that need no helm: in step with the rules, the dashboards, the settings and the version."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import busmon
from busmon.cli import main
from tests.chart import schema

ROOT = Path(__file__).parents[2]
CHART = ROOT / "docker/chart"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
VALUES_SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())


def test_the_charts_rules_are_those_that_would_be_built(capsys: Any) -> None:
    thresholds = str(CHART / "thresholds.toml")
    built = main(["rules", "build", "--check", "--thresholds", thresholds, str(CHART / "files/rules")])
    assert built == 0, f"run `make chart-files`: {capsys.readouterr().out}"


def test_the_charts_dashboards_are_those_of_the_compose_file() -> None:
    committed = {path.name: path.read_text() for path in (ROOT / "docker/grafana/dashboards").glob("*.json")}
    assert {path.name: path.read_text() for path in (CHART / "files/dashboards").iterdir()} == committed, (
        "run `make chart-files`"
    )


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    # The chart's version is semantic, as helm wants it: 0.3.0-dev.0 for Python's 0.3.0.dev0.
    assert chart["version"] == re.sub(r"\.dev(\d+)$", r"-dev.\1", busmon.__version__)
    assert chart["appVersion"] == busmon.__version__


def test_the_values_meet_their_schema_which_names_each_of_them() -> None:
    jsonschema.Draft7Validator.check_schema(VALUES_SCHEMA)
    jsonschema.validate(VALUES, VALUES_SCHEMA)
    assert set(VALUES_SCHEMA["properties"]) == {*VALUES, "global"}


def test_the_settings_of_the_schema_are_those_of_busmon() -> None:
    assert schema.document() == VALUES_SCHEMA, "run `make chart-files`"


@pytest.mark.parametrize("name", ["workers", "exchange", "batch_size", "dependencies", "forbidden_labels", "log_level"])
def test_a_setting_is_a_value(name: str) -> None:
    assert name in schema.list_names()
    jsonschema.validate(VALUES | {"settings": {name: "x"}}, VALUES_SCHEMA)


@pytest.mark.parametrize(
    "name",
    [
        "amqp_url",
        "management_url",
        "publisher_password",
        "consumer_password",
        "operator_password",
        "exporter_url",
        "postgres_url",
        "redis_url",
        "topology",
        "registry_dir",
        "listen",
        "web_config_file",
        "catalogue",
        "replication",
        "worker",
        "BUSMON_WORKERS",
    ],
)
def test_a_password_what_the_templates_set_and_an_unknown_name_are_none(name: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(VALUES | {"settings": {name: "x"}}, VALUES_SCHEMA)


def test_every_value_is_documented() -> None:
    page = (ROOT / "docs/kubernetes.md").read_text()
    assert [name for name in VALUES if f"`{name}" not in page] == []
