"""A shop that uses Celery for as long as a block runs: two workers and a client, for whoever wants to see something."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from busmon.bus.topology.declare import declare
from busmon.bus.topology.topology import load
from tests.celery.programs import CeleryWorker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHOP = """
import os, random, time
from celery import Celery

app = Celery("shop", broker=os.environ["BROKER_URL"])
app.conf.update(worker_send_task_events=True, task_send_sent_event=True, task_ignore_result=True,
                task_default_queue="orders", task_routes={"shop.mail": {"queue": "mails"}},
                broker_connection_retry_on_startup=True, worker_hijack_root_logger=False, worker_prefetch_multiplier=1)

class CardRefusedError(Exception):
    pass

@app.task(name="shop.pay")
def pay():
    time.sleep(random.expovariate(20))
    if random.random() < 0.004:
        raise CardRefusedError

@app.task(name="shop.ship", bind=True, max_retries=3, default_retry_delay=1)
def ship(self):
    time.sleep(random.expovariate(10))
    if random.random() < 0.05:
        raise self.retry()

@app.task(name="shop.mail")
def mail():
    time.sleep(random.expovariate(30))
"""
CLIENT = """
import random, sys, time
import shop
tasks = shop.pay, shop.ship, shop.mail
for task in tasks * 40:
    task.apply_async()
print("begun", flush=True)
while True:
    task = random.choices(tasks, [5, 2, 3])[0]
    task.apply_async()
    time.sleep(random.expovariate(float(sys.argv[1])))
"""


@contextmanager
def celery_traffic(directory: Path, amqp_url: str, tasks_per_second: float = 8.0) -> Iterator[None]:
    """Bind Celery's events to the fleet, and have workers and a client of Celery until the block's end.

    The workers begin once each shard has had events of the client that name the queues. A worker's event before them
    would be counted under Celery's default queue (docs/celery.md), which no task of the shop has.
    """
    declare(load(None, "telemetry", with_celery=True), amqp_url, None, {})
    directory.mkdir()
    (directory / "shop.py").write_text(SHOP)
    environment = os.environ | {"BROKER_URL": amqp_url}
    with ExitStack() as ending:
        command = [sys.executable, "-c", CLIENT, str(tasks_per_second)]
        client = subprocess.Popen(command, cwd=directory, env=environment, stdout=subprocess.PIPE)
        ending.enter_context(client)
        ending.callback(client.kill)
        assert client.stdout
        assert client.stdout.readline() == b"begun\n"
        for host, queues in (("shop-1", "orders,mails"), ("shop-2", "orders")):
            ending.enter_context(CeleryWorker(directory, environment, host, "threads", app="shop", queues=queues))
        yield
