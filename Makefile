# Every command of the project. Paths are relative, so that a clone may stand in a path with a space.
.DEFAULT_GOAL := help
.PHONY: help setup test test-browser test-node pictures stack dashboards test-storage alerts soak engine lock fuzz demo lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv with the package and its tools, and install RabbitMQ if no broker is named by BUSMON_AMQP_URL
	@.ci/setup

test: ## set up, then run every check and test, on a RabbitMQ of their own
	@.ci/setup --test
	@$(MAKE) --no-print-directory lint
	.venv/bin/pytest --numprocesses=auto --maxprocesses=8 --dist=worksteal --ignore=tests/browser --ignore=tests/storage --ignore=tests/engine

test-browser: ## set up, then look at the live page in a real, headless Chromium
	@.ci/setup --browser
	.venv/bin/pytest tests/browser

test-node: ## set up, then have the client for Node publish to a real fleet; takes Node 18, npm and npm's registry
	@.ci/setup --node
	.venv/bin/pytest tests/clients/node_client.py

pictures: ## set up, then draw the pictures of the docs again: the live page, the terminal's view, the dashboards; 25 minutes
	@.ci/setup --test
	@.ci/setup --node
	@.ci/setup --browser
	.venv/bin/python -m tests.browser.pictures
	.venv/bin/python -m tests.dashboards --settle 6 --minutes 10 --pictures

stack: ## set up, then run the monitoring stack without Docker until Ctrl-C: RabbitMQ, fleet, agents, Prometheus, Alertmanager
	@.ci/setup --test
	@.venv/bin/python -m busmon.demo.stack

dashboards: ## set up, then draw every dashboard over a real stack; fails where a panel is empty or an alert fires
	@.ci/setup --test
	@.ci/setup --node
	@.ci/setup --browser
	.venv/bin/python -m tests.dashboards $(DASHBOARDS)

test-storage: ## set up, then prove retention, federation, replicas and shards on the real programs
	@.ci/setup --test
	.venv/bin/pytest tests/storage

alerts: ## set up, then measure live how long 65 faults take to reach a webhook. ALERTS=--few for five
	@.ci/setup --test
	.venv/bin/python benchmarks/alerts_live.py $(ALERTS)

soak: ## set up, then kill everything 200 times under load and compare all totals. SOAK='--seed 7' repeats a run
	@.ci/setup --test
	.venv/bin/python -m tests.soak $(SOAK)

engine: ## set up, then run the compose file's profiles in a Docker Engine of its own; takes root, 15 minutes the first time
	@.ci/setup --test
	@.ci/setup --engine
	.venv/bin/pytest --timeout=1200 tests/engine

lock: ## set up, then lock the packages of the image by version and hash
	@.ci/setup
	.venv/bin/uv pip compile --quiet --python-version 3.13 --python-platform linux --generate-hashes --no-header \
		--extra postgres --extra redis --extra otlp --output-file docker/requirements.txt pyproject.toml
	.venv/bin/uv pip compile --quiet --python-version 3.13 --python-platform linux --generate-hashes --no-header \
		--output-file docker/build-requirements.txt docker/build-requirements.in

fuzz: ## set up, then scrape directories full of nonsense, 20,000 of them
	@.ci/setup --test
	.venv/bin/pytest --hypothesis-profile=fuzz --timeout=0 tests/fuzz

demo: ## set up, then run the whole way of the data until Ctrl-C, or for DEMO_SECONDS=20
	@.ci/setup
	@.venv/bin/python -m busmon.demo

lint: ## check style, types and layers
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: ## rewrite the code in the project's style
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

clean: ## remove .venv and whatever else the commands made
	rm -rf .venv .state .coverage .coverage.* htmlcov dist build .*_cache .hypothesis tests/dashboards/node_modules
