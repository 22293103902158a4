"""Logged errors are counted, by type and severity."""

import logging

from busmon.instrument import ErrorLog
from busmon.publish import Telemetry

from .conftest import Cells


def test_warnings_and_worse_are_counted_by_type_and_severity(telemetry: Telemetry, cells: Cells) -> None:
    logger, counting = logging.getLogger("shop.orders"), ErrorLog(telemetry)
    logger.addHandler(counting)
    logger.info("fine")
    logger.warning("odd")
    logger.critical("out of stock")
    for _ in range(2):
        logger.error("failed", exc_info=KeyError("task"))
    logger.removeHandler(counting)
    assert cells() == {
        ("errors_total", "shop.orders", "warning"): 1,
        ("errors_total", "shop.orders", "critical"): 1,
        ("errors_total", "KeyError", "error"): 2,
    }
