"""`python -m tests.stack`, which `make stack` runs: the monitoring stack until Ctrl-C, with its addresses."""

import sys
import threading
from contextlib import suppress

from busmon import settings
from busmon.demo import stage
from busmon.demo.children import Interrupts
from busmon.errors import BusmonError
from tests.stack.native import NativeStack

PAGES = {
    "prometheus": "Prometheus: /alerts, /targets, /graph",
    "alertmanager": "Alertmanager, without a receiver",
    "busmon": "the fleet: /metrics, /health, /ready",
    "rabbitmq": "RabbitMQ: /metrics",
    "node": "node_exporter: /metrics",
}


def main() -> int:
    """Run the stack; the exit status."""
    interrupts = Interrupts()
    interrupts.listen()
    try:
        with stage.directory() as directory, NativeStack(directory, settings.load(), _say) as stack:
            for program, page in PAGES.items():
                _say(f"http://{stack.addresses[program]}  {page}")
            _say(f"{stack.management_url}  RabbitMQ's pages")
            _say("in a second terminal: . .venv/bin/activate, and then")
            _say(f"export BUSMON_AMQP_URL={stack.amqp_url} BUSMON_LISTEN={stack.addresses['busmon']}")
            _say("busmon top; busmon tail; busmon publish tasks_processed_total 1 -l agent=me -l status=success")
            _say("Grafana isn't among Debian's packages: docs/dashboards.md shows its dashboards. Ctrl-C ends all")
            threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    except BusmonError as error:
        sys.stderr.write(f"busmon stack: {error}\n")
        return error.exit_status
    return 0


def _say(line: str) -> None:
    with suppress(BrokenPipeError):  # whoever listened has gone; the programs have to be ended all the same
        sys.stdout.write(f"busmon stack: {line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
