import asyncio
from pathlib import Path

from structlog.testing import capture_logs

from busmon.exporter.metrics.negotiation import Format
from busmon.exporter.metrics.scrape import Scrape
from busmon.settings import Settings


def test_a_catalogue_that_became_wrong_is_named_and_changes_nothing(tmp_path: Path) -> None:
    catalogue = tmp_path / "own.toml"
    catalogue.touch()
    scrape = Scrape(Settings(registry_dir=tmp_path, catalogue=(catalogue,)))
    catalogue.write_text("[counter\n")
    scrape.reload()
    with capture_logs() as lines:
        pages = [asyncio.run(scrape.page(Format.TEXT, compressed=False)) for _ in range(2)]
    assert all(b"busmon_build_info" in page for page in pages)
    (line,) = lines
    assert line["event"] == "scrape.reload_refused"
    assert str(catalogue) in line["cause"]


def test_a_catalogue_is_read_again_once_for_each_reload(tmp_path: Path) -> None:
    scrape = Scrape(Settings(registry_dir=tmp_path))
    scrape.reload()
    with capture_logs() as lines:
        for _ in range(2):
            asyncio.run(scrape.page(Format.TEXT, compressed=False))
    assert [line["event"] for line in lines] == ["scrape.catalogue_reloaded"]
