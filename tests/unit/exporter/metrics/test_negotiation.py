import pytest
from hypothesis import given
from hypothesis import strategies as st

from busmon.exporter.metrics.negotiation import Format, accepts_gzip, choose_format

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    "accept", [PROMETHEUS_2, PROMETHEUS_3, "application/openmetrics-text", "Application/OpenMetrics-Text"]
)
def test_prometheus_gets_openmetrics(accept: str) -> None:
    assert choose_format(accept) is Format.OPENMETRICS


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/plain",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.3",
        "application/openmetrics-text;version=1.0.0;q=0",
        "application/openmetrics-text;version=0.0.1",
        "application/openmetrics-text;version=2.0.0",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
        "application/openmetrics-text;q=high",
        "text/*;q=0.5, application/openmetrics-text;q=0.4",
    ],
)
def test_everybody_else_gets_text(accept: str) -> None:
    assert choose_format(accept) is Format.TEXT


def test_at_equal_quality_openmetrics_is_preferred() -> None:
    assert choose_format("text/plain, application/openmetrics-text") is Format.OPENMETRICS


@pytest.mark.parametrize("accept_encoding", ["gzip", "GZIP", "deflate, gzip;q=0.5", "*", "br;q=1, *;q=0.1"])
def test_gzip_is_sent_where_it_is_accepted(accept_encoding: str) -> None:
    assert accepts_gzip(accept_encoding)


@pytest.mark.parametrize("accept_encoding", ["", "identity", "gzip;q=0", "*, gzip;q=0", "br"])
def test_gzip_is_not_sent_where_it_is_not(accept_encoding: str) -> None:
    assert not accepts_gzip(accept_encoding)


@given(st.text())
def test_no_header_is_too_odd_to_answer(header: str) -> None:
    assert choose_format(header) in Format
    assert accepts_gzip(header) in {True, False}
