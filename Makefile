help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup:  ## build Caffe and make .venv; seconds when nothing has changed
	@scripts/install/setup.sh

demo: setup  ## the whole way of the paper on synthetic mammograms
	. .venv/bin/activate && python scripts/demo.py

reproduce-quick: setup  ## the paper's tables and figures, on synthetic films and far shorter than the paper's trainings
	. .venv/bin/activate && python scripts/reproduce.py --data synthetic --budget quick

test: lint  ## setup, lint, then every test, two files at a time
	. .venv/bin/activate && pytest -n 2 --dist loadfile --no-loadscope-reorder

caffe-test:  ## Caffe's own tests on our Caffe, and the nets against stock Caffe's; 25 minutes on two cores, then 10
	@scripts/install/caffe_test.sh

container-test:  ## build the Dockerfile's images without Docker Engine and use them; as root, an hour on two cores
	@scripts/install/container_test.sh

system-test:  ## setup, tests and a small demo on a bare Debian of the other release; as root, an hour on two cores
	@scripts/install/system_test.sh

lint: setup  ## check the style of Python, shell scripts and Dockerfile, and the types of the imported modules
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/shellcheck -S warning -e SC1007,SC2034,SC2054,SC2120,SC2154,SC2155,SC2164 scripts/install/*.sh .ci/run
	.venv/bin/hadolint --ignore DL3066 --ignore DL4006 Dockerfile

lock: setup  ## after a change of requirements*.txt: every version that setup installs, with its hashes
	.venv/bin/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate --no-header \
		requirements.txt requirements-fetch.txt requirements-dev.txt -o scripts/install/requirements.lock

licences: setup  ## THIRD_PARTY.md: the licence of everything that ships in the container images
	scripts/install/third_party.sh > THIRD_PARTY.md

drills: setup  ## kill the commands (KILLS=100), fuzz each reader (MINUTES=2); results/reliability.md; an hour and a half
	.venv/bin/pip install --quiet -r requirements-drills.txt
	.venv/bin/python -m tests.drills --kills $(or $(KILLS),100) --minutes $(or $(MINUTES),2)

clean:  ## remove .venv and what tools left; keeps data, weights, runs and the cached Caffe
	rm -rf .venv .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help setup demo reproduce-quick test caffe-test container-test system-test lint lock licences drills clean
