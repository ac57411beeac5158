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

lint: setup  ## check the Python files' style
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

clean:  ## remove .venv and what tools left; keeps data, weights, runs and the cached Caffe
	rm -rf .venv .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help setup demo reproduce-quick test caffe-test container-test system-test lint clean
