# Everything that a developer does more than once. `make help` lists the targets.
#
# Targets choose the newest supported CPython of the machine (.ci/find-pythons) and say which;
# PYTHON=/path/to/python chooses another. The package is built and installed into a virtual
# environment below the checkout (.venv-*), and it is the installed one that runs: a file that is
# missing from the package must fail here and not at a user's.
SHELL := bash
PYTHON ?=
PYTEST_ARGS ?=
LANES ?= 2
BENCH_ARGS ?=
CPYTHON_ARGS ?=
DEMO_ARGS ?=
LOAD_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-integrations test-torch test-matrix test-cpython bench bench-django lint clean test-faults test-asan test-allocators analyze fuzz load

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo:  ## build the package and run the main job on real data
	@env=$$(.ci/venv demo "" $(PYTHON)) && "$$env/bin/cowfreeze" demo $(DEMO_ARGS)

test:  ## build the package and run its tests, without the slow ones, in LANES processes
	@env=$$(.ci/venv test "[test]" $(PYTHON)) && "$$env/bin/python" tests/helpers/lanes.py $(LANES) -m 'not slow' $(PYTEST_ARGS)

test-slow:  ## only the tests that need minutes or a lot of memory
	@env=$$(.ci/venv test "[test]" $(PYTHON)) && "$$env/bin/python" -X faulthandler -m pytest -m slow $(PYTEST_ARGS)

test-faults:  ## every n-th call of the C library fails, in every operation (hours)
	@env=$$(.ci/venv test "[test]" $(PYTHON)) \
	  && "$$env/bin/python" -X faulthandler -m pytest tests/robust/test_faults.py -m 'slow or not slow' $(PYTEST_ARGS)

test-allocators:  ## glibc's tunables, PYTHONMALLOC, preloaded allocators (installed with apt if root): a table
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get install -y -qq libjemalloc2 libtcmalloc-minimal4 libmimalloc2.0 electric-fence >/dev/null; fi
	@env=$$(.ci/venv test "[test]" $(PYTHON)) \
	  && RACE_SECONDS=10 "$$env/bin/python" -m pytest -q -s tests/robust/test_allocators.py

test-asan:  ## the tests on builds with UndefinedBehaviorSanitizer and AddressSanitizer
	@PYTEST_ARGS="$(PYTEST_ARGS)" bash .ci/asan $(PYTHON)

analyze:  ## gcc's static analyzer and all warnings as errors over csrc/
	@bash .ci/analyze $(PYTHON)

fuzz:  ## Atheris over the parsers, a minute each (FUZZ_ARGS="--seconds N [TARGET ...]")
	@env=$$(.ci/venv fuzz "[test]" $(PYTHON)) && "$$env/bin/python" -m pip install -q atheris \
	  && "$$env/bin/python" tests/robust/guided_fuzz.py $(FUZZ_ARGS)

load:  ## a million forks from a frozen parent (LOAD_ARGS="forks --count N", or kills, freezes, rounds)
	@env=$$(.ci/venv test "[test]" $(PYTHON)) && "$$env/bin/python" tests/robust/cases_load.py $(or $(LOAD_ARGS),forks --count 1000000)

test-integrations:  ## the integrations against the real servers, which it installs where there are packages of them
	@env=$$(.ci/venv integrations "[test,gunicorn,celery]" $(PYTHON)) && .ci/install-hosts "$$env" \
	  && "$$env/bin/python" -X faulthandler -m pytest -rP tests/integrations $(PYTEST_ARGS)

test-torch:  ## the DataLoader, with a PyTorch that PYTHON has already (Debian's: apt install python3-torch)
	@env=$$(VENV_ARGS=--system-site-packages .ci/venv torch "[pytest]" $(or $(PYTHON),/usr/bin/python3)) \
	  && "$$env/bin/python" -c 'import torch' \
	  && "$$env/bin/python" -X faulthandler -m pytest -rP tests/integrations/test_torch.py $(PYTEST_ARGS)

test-matrix:  ## the tests on every interpreter of the machine (.ci/run)
	@bash .ci/run

test-cpython:  ## CPython's own tests on a frozen heap, all files, both modes (an hour)
	@env=$$(.ci/venv test "[test]" $(PYTHON)) && for mode in frozen children; do \
	  "$$env/bin/python" tests/cpython/run.py --mode $$mode $(CPYTHON_ARGS) || exit 1; done

.PHONY: test-docs test-wheel docs sdist wheel wheels

test-docs:  ## every code block of tutorial, how-to pages and README, and the examples, with their servers
	@env=$$(.ci/venv test-docs "[test,gunicorn,celery]" $(PYTHON)) \
	  && "$$env/bin/python" -X faulthandler -m pytest -rs tests/repository/test_docs.py tests/repository/test_examples.py $(PYTEST_ARGS)

test-wheel:  ## build a wheel from the sdist and run the tests from it, in an environment without a compiler
	@bash .ci/wheel test $(PYTHON)

docs:  ## the documentation as a site in build/site; warnings are errors
	@env=$$(.ci/venv docs "[docs]" $(PYTHON)) \
	  && NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true "$$env/bin/mkdocs" build --strict --quiet --clean \
	  && echo "build/site/index.html"

sdist:  ## the source distribution, in dist/
	@bash .ci/wheel sdist $(PYTHON)

wheel:  ## a wheel for one interpreter, built from the sdist, in dist/
	@bash .ci/wheel build $(PYTHON)

wheels:  ## manylinux and musllinux wheels for all versions (cibuildwheel; needs a container engine)
	@env=$$(.ci/venv wheels "" $(PYTHON)) && "$$env/bin/python" -m pip install -q cibuildwheel \
	  && "$$env/bin/python" -m cibuildwheel --platform linux --output-dir dist

bench:  ## what freezing costs, against one collection of the same graph
	@env=$$(.ci/venv demo "" $(PYTHON)) && "$$env/bin/python" bench/bench_freeze.py $(BENCH_ARGS)

bench-django:  ## what workers of a Django application copy: plain fork, gc.freeze, cowfreeze
	@env=$$(.ci/venv django "[bench-django]" $(PYTHON)) \
	  && { "$$env/bin/python" -m pip install -q --only-binary :all: pandas || echo "no pandas for this Python" >&2; } \
	  && "$$env/bin/python" bench/bench_django.py $(BENCH_ARGS)

lint:  ## mypy --strict and ruff over the Python files
	@env=$$(.ci/venv lint "[pytest,plot]" $(PYTHON)) && "$$env/bin/python" -m pip install -q mypy ruff types-psutil \
	  && "$$env/bin/mypy" --strict --python-executable "$$env/bin/python" src/cowfreeze src/pytest_cowfreeze bench \
	  && "$$env/bin/mypy" --strict --python-executable "$$env/bin/python" tests/repository/typed_sample.py \
	  && "$$env/bin/python" -m mypy.stubtest --ignore-disjoint-bases --allowlist .ci/stubtest-allowed --ignore-unused-allowlist cowfreeze._core \
	  && "$$env/bin/ruff" check src tests bench docs .ci

clean:  ## remove environments, caches and everything that was built
	rm -rf build dist .cache .venv-* .pytest_cache .mypy_cache .ruff_cache src/cowfreeze/_core.c src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
