import urllib.request
from pathlib import Path

import yaml

from tests.stack import inbox

SHIPPED = Path(__file__).parents[2] / "docker/alertmanager/alertmanager.yml"


def test_every_notification_is_taken() -> None:
    told = b'{"alerts": []}'
    with inbox.serving() as url, urllib.request.urlopen(url, told, timeout=10) as answer:  # noqa: S310 - ours
        assert answer.status == 200


def test_every_receiver_becomes_the_webhook_and_no_secret_is_read(tmp_path: Path) -> None:
    configuration = tmp_path / "alertmanager.yml"
    configuration.write_text(SHIPPED.read_text())

    inbox.address(configuration, "http://127.0.0.1:1")

    before, after = yaml.safe_load(SHIPPED.read_text()), yaml.safe_load(configuration.read_text())
    assert after["route"] == before["route"]
    assert [receiver["name"] for receiver in after["receivers"]] == [
        receiver["name"] for receiver in before["receivers"]
    ]
    assert {hook["url"] for receiver in after["receivers"] for hook in receiver["webhook_configs"]} == {
        "http://127.0.0.1:1"
    }
    assert "secrets" not in configuration.read_text()
