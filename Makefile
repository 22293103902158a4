# Every command of the project. Paths are relative, so that a clone's path may contain a space.
.DEFAULT_GOAL := help
# Tests wait for brokers and processes more than they compute, so two of them share a core.
export WORKERS ?= $(shell expr 2 '*' $$(nproc))
.PHONY: help setup compile demo stack test celery lint format test-browser dashboards alerts test-storage test-node soak soak-long day replication fuzz fuzz-long engine chart chart-files cluster test-rabbitmq test-python test-prometheus pictures lock registry clean

help: ## 1 s | list the targets with their times on 2 quiet cores
	@awk -F ':.*## | [|] ' '/^[a-z-]+:.*## / { printf "make %-15s %-12s  %s\n", $$1, $$2, $$3 }' Makefile

setup: ## 1 min | make .venv with the package and its tools, and install RabbitMQ if no broker is named by BUSMON_AMQP_URL
	@.ci/setup

compile: ## 10 s | set up with a C compiler, then compile the modules of the hot path whose sources have changed
	@BUSMON_COMPILE=required .ci/setup

demo: ## until Ctrl-C | set up, then run `busmon demo`: a broker, a fleet, simulated agents. DEMO_SECONDS=20 ends it with an audit
	@.ci/setup
	@.venv/bin/busmon demo $(if $(DEMO_SECONDS),--seconds "$(DEMO_SECONDS)")

stack: ## until Ctrl-C | set up, then run the monitoring stack without Docker: RabbitMQ, fleet, agents, Prometheus, Alertmanager
	@.ci/setup --test
	@.venv/bin/python -m tests.stack

test: ## 10 min | set up, then run every check and test, on a RabbitMQ of their own
	@.ci/setup --test
	@$(MAKE) --no-print-directory lint
	.venv/bin/pytest --numprocesses=$(WORKERS) --dist=worksteal --ignore=tests/browser --ignore=tests/storage --ignore=tests/engine --ignore=tests/cluster --ignore=tests/replication --ignore=tests/chart --ignore=tests/celery

celery: ## 10 min | set up, then count the events of 100,000 tasks of real Celery workers while everything is killed. CELERY_TASKS=5000: fewer
	@.ci/setup --test
	.venv/bin/pytest --numprocesses=0 --timeout=7200 tests/celery

lint: ## 1 min | check style, types, layers and language
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python -m tests.language

format: ## 1 s | rewrite the code in the project's style
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

test-browser: ## 2 min | set up, then look at the live page in a real, headless Chromium
	@.ci/setup --browser
	.venv/bin/pytest tests/browser

dashboards: ## 4 min | set up, then draw every dashboard over a real stack; fails where a panel is empty or an alert fires
	@.ci/setup --test
	@.ci/setup --node
	@.ci/setup --browser
	.venv/bin/python -m tests.dashboards $(DASHBOARDS)

alerts: ## 9 min | set up, then measure live how long 65 faults take to reach a webhook. ALERTS=--few: five faults, 3 min
	@.ci/setup --test
	.venv/bin/python benchmarks/alerts_live.py $(ALERTS)

test-storage: ## 4 min | set up, then prove retention, federation, replicas and shards on the real programs
	@.ci/setup --test
	.venv/bin/pytest tests/storage

test-node: ## 1 min | set up, then have the client for Node publish to a real fleet; takes Node 18, npm and npm's registry
	@.ci/setup --node
	.venv/bin/pytest tests/clients/node_client.py

soak: ## 6 min | set up, then kill everything 200 times under load and compare all totals. SOAK='--hosts 2 --seed 7': replicated, 12 min
	@.ci/setup --test
	.venv/bin/python -m tests.soak $(SOAK)

replication: ## 8 min | set up, then stop, cut, fill and kill hosts of a replicated fleet, with their directories. SCHEDULE_SEED=2 for others
	@.ci/setup --test
	.venv/bin/pytest --timeout=600 tests/replication

soak-long: ## 600 min | set up, then soak in slices until 10,000 processes are killed, and judge what is flat; goes on where it ended
	@.ci/setup --test
	.venv/bin/python -m tests.soak.long $(SOAK)

day: ## 20-60 min | set up, then let 100,000 sources a day come and go for six days on a scaled clock, and judge what is flat
	@.ci/setup --test
	.venv/bin/python -m tests.day $(DAY)

fuzz: ## 10 min | set up, then fuzz every format and damaged registry directories, guided by coverage; goes on where it ended
	@.ci/setup --fuzz
	.venv/bin/python -m tests.fuzz $(FUZZ)

fuzz-long: ## 600 min | the same, until ten million bodies and 100,000 directories are tried. It may be ended and resumed
	@.ci/setup --fuzz
	.venv/bin/python -m tests.fuzz --until-budget $(FUZZ)

engine: ## 12 min | set up, then run the compose file's profiles and the chart's pods in a Docker Engine of its own; takes root
	@.ci/setup --test
	@.ci/setup --engine
	@.ci/setup --chart
	.venv/bin/pytest --timeout=1800 tests/engine

chart: ## 3 min | set up, then render the Helm chart and validate it against Kubernetes' schemas; 1 min once helm is built
	@.ci/setup --chart
	.venv/bin/pytest tests/chart

chart-files: ## 3 s | write the rules and dashboards of the Helm chart, and the names of settings in its schema
	.venv/bin/busmon rules build --thresholds docker/chart/thresholds.toml docker/chart/files/rules
	.venv/bin/busmon dashboards build docker/chart/files/dashboards
	.venv/bin/python -m tests.chart.schema

cluster: ## 60 min | set up, then lose, part, freeze, kill and restart nodes and hosts of a RabbitMQ cluster; takes root. CLUSTER='-k replicated' for some
	@.ci/setup --test
	$(if $(RABBITMQ),tests/debian/rabbitmq.sh $(RABBITMQ) --numprocesses=0,.venv/bin/pytest) --timeout=1200 tests/cluster $(CLUSTER)

test-rabbitmq: ## 30 min | set up, then run the suites of broker and fleet against RabbitMQ 4.0 and 4.3; takes root. RABBITMQ=4.3: one of them
	@.ci/setup --test
	@.ci/setup --debian
	@set -e; for version in $(or $(RABBITMQ),4.0 4.3); do tests/debian/rabbitmq.sh $$version $(TESTS); done

test-python: ## 20 min | set up, then run the unit and broker suites with Python 3.12, 3.13 and 3.14. PYTHON=3.14: one of them
	@.ci/setup --test
	@.ci/setup --debian
	@set -e; for version in $(or $(PYTHON),3.12 3.13 3.14); do tests/debian/python.sh $$version $(TESTS); done

test-prometheus: ## 4 min | set up, then run the tests of rules and scrapes with Prometheus 2 and 3; takes root for 3
	@.ci/setup --test
	@.ci/setup --debian
	@tests/debian/prometheus.sh

pictures: ## 25 min | set up, then draw the pictures of the docs again: the live page, the terminal's view, the dashboards
	@.ci/setup --test
	@.ci/setup --node
	@.ci/setup --browser
	.venv/bin/python -m tests.browser.pictures
	.venv/bin/python -m tests.dashboards --settle 6 --minutes 10 --pictures

lock: ## 10 s | set up, then lock the packages of the image by version and hash
	@.ci/setup
	.venv/bin/uv pip compile --quiet --python-version 3.13 --python-platform linux --generate-hashes --no-header \
		--extra fleet --extra postgres --extra redis --extra otlp --output-file docker/requirements.txt pyproject.toml
	.venv/bin/uv pip compile --quiet --python-version 3.13 --python-platform linux --generate-hashes --no-header \
		--output-file docker/build-requirements.txt docker/build-requirements.in

registry: ## 1 min | set up, then write this version's registry directory for the tests of upgrades: a step of a release
	@.ci/setup
	.venv/bin/python -m tests.fleet.released_registry

clean: ## 1 s | remove .venv and whatever else the commands made
	rm -rf .venv .state .coverage .coverage.* htmlcov dist build .*_cache .hypothesis tests/dashboards/node_modules
	find busmon -name '*.so' -delete
