# The two commands: `make load` (fresh machine to finished report) and `make test`. `make help` lists the rest.

# Ansible ends at once in a locale that is not UTF-8, or that the machine does not have: the first UTF-8 one that it has stands in
# (C.UTF-8 where there is one). Before SHELL, as bash would complain of the same locale.
ifneq ($(shell locale charmap 2>&1),UTF-8)
export LC_ALL := $(shell locale -a 2>/dev/null | grep -im1 'utf-\?8$$')
endif
# Ansible overlooks the file in a folder that everyone may write to, and where another one is named.
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

SHELL := /bin/bash
.DEFAULT_GOAL := help
# ANSIBLE=2.16 is for hosts with Ubuntu 16.04, in an environment of its own.
VENV := .venv$(addprefix -,$(ANSIBLE))
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

ifdef STACK
$(error STACK= is called RELEASE= now, and its values are celery5 and celery31$(if $(filter post2017,$(STACK)),: RELEASE=celery31)$(if $(filter modern,$(STACK)),: RELEASE=celery5))
endif
# RELEASE=celery31 is what the article ran; in the labs each release has hosts of its own.
INVENTORY ?= inventory/lab$(if $(filter celery31,$(RELEASE)),-celery31)
# ansible-playbook, with the options of the user, such as ARGS='-K --limit worker1 --check -v'.
PLAY = ansible-playbook -i $(INVENTORY) $(value ARGS)

# $1 as it stands between the quotes of a JSON string, within those of the shell.
quoted = $(subst ','\'',$(subst ",\",$(subst \,\\,$1)))
# Those of the make variables that are given, as extra variables: $1 is a list of VARIABLE=extra_variable.
options = $(foreach pair,$1,$(call option,$(word 1,$(subst =, ,$(pair))),$(word 2,$(subst =, ,$(pair)))))
option = $(if $(value $1),-e '{"$2": "$(call quoted,$(value $1))"}')
# Options of the load; what is not given keeps the default of playbooks/group_vars/all/load.yml.
OPTIONS := $(call options,TASKS=load_tasks THREADS=load_threads PROCESSES=load_processes NAME=load_name RATE=load_rate \
         REQUIRE=load_thresholds SCENARIO=load_scenario PROFILE_COST=load_profile_cost PYSPY=load_pyspy SCREENSHOTS=load_screenshots RELEASE=celery_release)
# What each task is called with: a number, or several values with commas between, as JSON has them.
OPTIONS += $(if $(value N),-e '{"app_arguments": [$(subst ','\'',$(value N))]}')

# Playbooks that have a target.
NAMED := site run-load capacity tune lab-up lab-down
.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18
	@printf '\n%s\n' "For ansible-playbook alone, each says at its beginning what it does: $(sort $(filter-out $(foreach known,$(NAMED),playbooks/$(known).yml),$(wildcard playbooks/*.yml)))"
	@printf '\n%s\n' "What runs Ansible hands it ARGS: ARGS='-K --limit worker1 --check -v', ARGS=--ask-vault-pass, ARGS='--vault-id NAME@FILE'."

.PHONY: load
load: site ## Everything: lab, cluster, load, report (TASKS=20000, RELEASE=celery31 and so on; docs/running.md lists the options)
	$(PLAY) run-load.yml $(OPTIONS)

.PHONY: site
site: $(VENV)/controller ## Provision the landscape (the lab's hosts first, where the inventory has some)
	$(PLAY) site.yml $(OPTIONS)

.PHONY: capacity
capacity: site ## How many tasks per second the cluster does, steadily (BUDGET=600 SECONDS=20 ROUNDS=3 TOLERANCE=0.05)
	$(PLAY) playbooks/capacity.yml $(OPTIONS) $(call options,BUDGET=capacity_budget SECONDS=capacity_seconds ROUNDS=capacity_rounds TOLERANCE=capacity_tolerance)

.PHONY: tune
tune: site ## Which settings of the workers suit the load: tries a grid, recommends, restores (BUDGET=1800 SECONDS=10 ROUNDS=3)
	$(PLAY) playbooks/tune.yml $(OPTIONS) $(call options,BUDGET=tune_budget SECONDS=tune_seconds ROUNDS=tune_rounds)

# Not in the help: benchmarks/README.md has it.
.PHONY: benchmark
benchmark: override INVENTORY = benchmarks/inventory/lab
benchmark: $(VENV)/controller
	$(PLAY) benchmarks/task-queues.yml $(call options,ROUNDS=benchmark_rounds RESUME=benchmark_resume)

.PHONY: compare
compare:
	$(error make compare is called make benchmark now)

# The lab's hosts, or those of HOSTS.
.PHONY: new
new: $(VENV)/controller ## An inventory for your own app: INVENTORY=inventory/mine APP=../shop HOSTS='broker=10.0.0.1 worker=10.0.0.2' (without HOSTS, the lab's)
	$(if $(and $(value APP),$(filter-out file,$(origin INVENTORY))),,$(error say which app, and where to: make new INVENTORY=inventory/mine APP=../shop))
	taskmill inspect $(call given,APP) --inventory '$(INVENTORY)' $(if $(value HOSTS),--hosts $(call given,HOSTS),--like inventory/lab) $(value ARGS)
# A variable's value within the shell's quotes.
given = '$(subst ','\'',$(value $1))'

.PHONY: lab-down
lab-down: $(VENV)/controller ## End the lab's hosts and remove what they leave (RELEASE= INVENTORY=)
	$(PLAY) playbooks/lab-down.yml

# The controller's own Python, from hashed locks.

$(VENV)/bin/python:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "taskmill needs Python 3.11 or newer; python3 is $$(python3 --version 2>&1)" >&2; exit 1; }
	@python3 -c 'import ensurepip' 2>/dev/null || { apt-get update -q && apt-get install -y -q python3-venv; }
	python3 -m venv $(VENV)

$(VENV)/controller: requirements/controller$(addprefix -,$(ANSIBLE)).txt app/pyproject.toml | $(VENV)/bin/python
	pip install --quiet --require-hashes --requirement $<
	pip install --quiet --no-build-isolation --no-deps --editable app
	@touch $@

.venv/dev: requirements/dev.txt .venv/controller
	pip install --quiet --require-hashes --requirement $<
	@touch $@

# Checks and tests. Molecule's hosts are their own: the scenarios run beside a lab that is up, and beside each other. tests/suite.yml
# lists the steps, JOBS says how many at the same time.
JOBS ?= 3
suite = python tests/suite.py $1 --jobs $(JOBS) $(if $(ONLY),--only $(ONLY)) $(if $(RESUME),--resume)

.PHONY: test
test: .venv/dev ## The checks and tests that everyone runs, and CI (JOBS=3 ONLY=landscape,app)
	$(call suite,test)

.PHONY: test-all
test-all: .venv/dev ## Every check and test there is, for a night (JOBS=3 ONLY=faults,redis RESUME=1)
	$(call suite,all)

.PHONY: clean
clean: .venv/dev ## Delete what labs and tests keep: bases, images, downloads, logs (the labs have to be down)
	@! ls /var/lib/taskmill-lab/networks 2>/dev/null | grep . || { echo 'These labs are up: take them down first, each with make lab-down INVENTORY=...' >&2; exit 1; }
	ansible-playbook -i inventory/lab playbooks/lab-down.yml -e lab_host_purge=true
	rm -rf .cache

.PHONY: lint
lint: .venv/dev ## ansible-lint (production), yamllint, ruff, mypy (strict), import-linter (LINT_LATER= folders without ansible-lint)
	ruff check .
	ruff format --check .
	mypy
	cd app/src && lint-imports --no-cache ../../pyproject.toml
	yamllint --strict .
	ansible-lint --strict $(addprefix --exclude=,$(LINT_LATER))

UNITS := 'not service and not browser and not thorough'
# Where `molecule` looks for scenarios.
export MOLECULE_GLOB := {molecule,benchmarks/molecule}/*/molecule.yml

.PHONY: test-units
test-units: .venv/dev ## The tests that need no host and no service
	pytest -q --numprocesses auto -m $(UNITS) tests
	cd app && pytest -q --numprocesses auto -m $(UNITS)
	cd benchmarks && pytest -q --numprocesses auto --dist loadfile

# As tests/suite.py does: held by the one that uses the addresses of the scenarios. What it starts does not inherit it.
SUITE_LOCK := /run/lock/taskmill-tests

# test-SCENARIO@DISTRO, such as test-rabbitmq@bookworm.
test-%: .venv/dev
	@flock --nonblock --close --conflict-exit-code 75 $(SUITE_LOCK) bash -euc ' \
		echo "process $$$$, in $(CURDIR)" > $(SUITE_LOCK); \
		MOLECULE_DISTRO=$(lastword $(subst @, ,$*)) exec molecule test --scenario-name $(firstword $(subst @, ,$*))' || { \
		code=$$?; [ $$code != 75 ] || echo "tests are under way already, whose hosts have the same addresses: $$(cat $(SUITE_LOCK))" >&2; \
		exit $$code; }

.PHONY: test-role
test-role: ## One scenario of molecule/, a role's or another: ROLE=memcached, DISTRO=bookworm for Debian 12
	@$(MAKE) test-$(or $(ROLE),$(error say which: make test-role ROLE=memcached))@$(or $(DISTRO),trixie)

LOCK := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade

.PHONY: docs
docs: $(VENV)/controller ## Generate docs/variables.md from the variables' own files
	python docs/variables.py

.PHONY: screenshot
screenshot: .venv/dev ## The README's picture of a report, by Chromium (RUN=runs/latest)
	python docs/screenshot.py $(or $(RUN),runs/latest)/report.html docs/report.png

.PHONY: schema
schema: .venv/dev ## The JSON Schema of run.json, docs/run-schema.json
	python -c 'import json; from taskmill.model.record import json_schema; print(json.dumps(json_schema(), indent=2))' > docs/run-schema.json

.PHONY: lock
lock: .venv/dev ## Pin every requirement anew, with hashes
	cd requirements && for name in app app-test browser flower py-spy taskmill; do $(LOCK) --python-version 3.10 $$name.in --output-file $$name.txt || exit; done
	cd requirements && for name in controller controller-2.16 dev; do $(LOCK) --python-version 3.11 $$name.in --output-file $$name.txt || exit; done
	cd benchmarks/requirements && for name in $(basename $(notdir $(wildcard benchmarks/requirements/*.in))); do $(LOCK) --python-version 3.10 $$name.in --output-file $$name.txt || exit; done
	cd requirements/celery31 && $(LOCK) --python-version 3.8 virtualenv.in --output-file virtualenv.txt
	for folder in $(dir $(wildcard examples/*/requirements.in)); do (cd $$folder && $(LOCK) --python-version 3.10 requirements.in --output-file requirements.txt) || exit; done
# No resolver of today knows Python 2.7: what they need is listed in full, and only hashes are added.
	cd requirements/celery31 && for name in app client flower celery-4.0.2; do $(LOCK) --python-version 3.8 --no-deps $$name.in --output-file $$name.txt || exit; done
