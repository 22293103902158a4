"""The cost of the import to an agent."""

import json
import subprocess
import sys

OPTIONAL = ("psutil", "sqlalchemy", "psycopg_pool", "redis")
HEAVY = ("pika", "tenacity", "structlog", "prometheus_client", "starlette", "uvicorn", "rich", "http", "asyncio")

INSTRUMENTS = """
import sys
import busmon.instrument
print([name for name in sys.argv[1:] if name in sys.modules])
"""

PROGRAM = """
import json, logging, sys
from busmon import Telemetry
loaded = [name for name in sys.argv[1:] if name in sys.modules]
telemetry = Telemetry("analyzer", "amqp://guest:guest@127.0.0.1:1/")
started = [name for name in sys.argv[1:] if name in sys.modules]
telemetry.close(0.1)
handlers = [type(handler).__name__ for handler in logging.getLogger("busmon").handlers + logging.getLogger().handlers]
print(json.dumps([loaded, started, handlers]))
"""


def test_the_import_is_light_and_configures_no_logging() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *HEAVY, *OPTIONAL], capture_output=True, text=True, check=True)
    loaded, started, handlers = json.loads(ran.stdout)
    assert loaded == []
    assert {*started}.isdisjoint({"structlog", "prometheus_client", "starlette", "uvicorn", "rich", *OPTIONAL})
    assert handlers == []


def test_a_program_without_logging_is_told_on_stderr_that_the_broker_is_away() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert "127.0.0.1:1" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_instrumentation_loads_no_library_that_the_program_doesnt_use() -> None:
    names = ["pika", "prometheus_client", "starlette", *OPTIONAL]
    ran = subprocess.run([sys.executable, "-c", INSTRUMENTS, *names], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
