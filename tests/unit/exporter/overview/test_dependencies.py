from busmon.exporter.overview.dependencies import BAD, FAIR, GOOD, Dependency, dependencies

READY = {
    "status": "ready",
    "services": {"rabbitmq": "connected", "postgres": "disconnected", "redis": "disconnected"},
    "checks": {"database_migration": "pending", "cache_warm": "false", "message_queue": "available"},
    "degraded": ["postgres is disconnected: timed out"],
    "dependencies": {
        "rabbitmq": {"state": "connected", "required": True, "age_seconds": 0.4},
        "postgres": {"required": True, "age_seconds": 3.0, "breaker": "open", "cause": "timed out"},
        "redis": {"required": False, "age_seconds": 1.0, "breaker": "open", "cause": ""},
    },
    "resources": {"disk": {"state": "high", "ratio": 0.93, "threshold": 0.9, "age_seconds": 2.0}},
}


def test_each_service_check_and_resource_is_a_row_with_its_severity() -> None:
    rows = {row.name: row for row in dependencies(READY)}
    assert rows["rabbitmq"] == Dependency("rabbitmq", "service", "connected", GOOD, 0.4, "")
    assert rows["postgres"] == Dependency("postgres", "service", "disconnected", BAD, 3.0, "timed out")
    assert rows["redis"] == Dependency("redis", "service", "disconnected", FAIR, 1.0, "circuit breaker open")
    assert rows["disk"] == Dependency("disk", "resource", "high", FAIR, 2.0, "93% used (limit 90%)")
    assert {name: rows[name].severity for name in READY["checks"]} == {
        "database_migration": FAIR,
        "cache_warm": BAD,
        "message_queue": GOOD,
    }


def test_a_word_that_isnt_known_to_be_good_is_bad() -> None:
    assert [row.severity for row in dependencies({"services": {"x": "splendid"}})] == [BAD]


def test_an_answer_says_how_long_it_took() -> None:
    document = {"services": {"api": "connected"}, "dependencies": {"api": {"duration_seconds": 0.0123}}}
    assert [row.detail for row in dependencies(document)] == ["answers in 12.3 ms"]


def test_an_empty_document_has_no_rows() -> None:
    assert list(dependencies({})) == []
