"""The whole catalogue's exposition in the eyes of Prometheus' own linter."""

import shutil
import subprocess
from pathlib import Path

import pytest

from busmon.catalogue import conventions, example
from busmon.catalogue.family import GAUGE
from busmon.registry.scrape.exposition import Exposition
from tests.unit.registry.registries import CATALOGUE, Registry

pytestmark = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian: prometheus) isn't installed")


def whole_catalogue(directory: Path) -> bytes:
    """A scrape with a series of every family that the catalogue has."""
    with Registry(directory) as registry:
        registry.shard.expose_at_zero(CATALOGUE.families.values())
        for family in CATALOGUE.families.values():
            labelvalues = tuple("x" for _ in family.labelnames)
            if not family.internal:
                document = example.envelope(family)
                registry.fold(*document.get("samples", ()), tables=document.get("tables", ()))
            elif family.type == GAUGE:
                registry.shard.fold.own.set(family.name, labelvalues, 1, 1)
            elif family.buckets:
                registry.shard.fold.own.observe(family.name, labelvalues, [1])
            else:
                registry.shard.fold.own.count(family.name, labelvalues)
        registry.commit()
    exposition = Exposition(directory)
    text = exposition.text()
    assert {family.metric_name for family in CATALOGUE.families.values()} <= set(exposition.series)
    return text


def check(text: bytes) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", "check", "metrics"], input=text.decode(), capture_output=True, text=True, check=False
    )


def test_the_catalogue_passes_but_for_the_strategys_own_names(tmp_path: Path) -> None:
    checked = check(whole_catalogue(tmp_path))
    excepted = {name for names in conventions.exceptions().values() for name in names}
    complaints = (checked.stdout + checked.stderr).splitlines()
    assert {line.split()[0] for line in complaints} <= excepted, complaints
    assert checked.returncode == (3 if complaints else 0)


def test_the_linter_would_see_a_text_that_is_none() -> None:
    assert (
        check(b"# HELP hits Hits\n# TYPE hits counter\nhits 1\n").stderr
        == 'hits counter metrics should have "_total" suffix\n'
    )
    assert check(b"x{a=b} 1\n").returncode == 1
