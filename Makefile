# The commands of this project. `make run` and `make test` work on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 8000
SECONDS ?= 5
REQUESTS ?= 200000
SUMS ?= 1000000
ABUSE ?=
SIMULATE ?=
KILLS ?= 40
EVENTS ?= 10000000

.PHONY: run test check slow bench bench-streams bench-reconcile bench-exports focus-check chaos abuse simulate stripe-demo

run: $(VENV)/installed
	FAREBOX_HOST=$(HOST) FAREBOX_PORT=$(PORT) $(BIN)/farebox up

test: $(VENV)/ready-for-tests
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not chaos and not slow"

check: $(VENV)/ready-for-tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/python -m tests.check_migrations

slow: $(VENV)/ready-for-tests
	$(BIN)/python -m pytest -m slow

# Minutes each; their records lie in docs/benchmarks/.
bench: $(VENV)/ready-for-tests
	$(BIN)/python -m tests.bench.gateway --seconds $(SECONDS) --requests $(REQUESTS)

bench-streams: $(VENV)/ready-for-tests
	$(BIN)/python -m tests.bench.batch_streams

bench-reconcile: $(VENV)/ready-for-tests
	$(BIN)/python -m tests.bench.reconcile --events $(EVENTS)

# The books of SUMS hourly sums are built first, which takes longer than their export.
bench-exports: $(VENV)/ready-for-tests
	$(BIN)/python -m tests.bench.exports --sums $(SUMS)

# A FOCUS export, held against the FinOps Foundation's validator in an environment of its own. Needs Python 3.12.
focus-check: $(VENV)/ready-for-tests
	$(BIN)/python -m tests.focus_check

# Ten minutes on two cores. `make chaos KILLS=500` takes an hour and a half.
chaos: $(VENV)/ready-for-tests
	$(BIN)/python -m pytest -s -m chaos --timeout 7200 tests/chaos --kills $(KILLS)

# Hours for a million steps. `make simulate SIMULATE="--seed 7 --steps 20000"` lives through one seed again.
simulate: $(VENV)/ready-for-tests
	$(BIN)/python -m tests.billing.simulation $(SIMULATE)

# A quarter of an hour. `make abuse ABUSE="--only rerank-bomb --replicas 1"` tries one attacker.
abuse: $(VENV)/ready-for-tests
	$(BIN)/python -m tests.abuse $(ABUSE)

# Farebox beside a stand-in for Stripe: nobody pays anything. Ctrl-C stops both.
stripe-demo: $(VENV)/ready-for-tests
	$(BIN)/python -m tests.stripe_demo --host $(HOST) --port $(PORT)

$(VENV)/installed: pyproject.toml
	@echo "Making a virtual environment in $(VENV)."
	$(PYTHON) -m venv $(VENV)
	@echo "Installing Farebox and what it needs, torch above all: a few minutes, this first time only."
	$(BIN)/python -m pip install --progress-bar on --editable .
	touch $@

$(VENV)/ready-for-tests: $(VENV)/installed
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups']['dev'], sep='\n')" > $(VENV)/dev.txt
	@echo "Installing the tools of the tests: a minute or two, this first time only."
	$(BIN)/python -m pip install --progress-bar on --requirement $(VENV)/dev.txt
	touch $@
