# Everything installs into .venv. On a laptop without a GPU, add TORCH_INDEX=https://download.pytorch.org/whl/cpu
# to the first command: PyPI's torch brings 2.6 GB of CUDA libraries along.
PYTHON ?= python3
TORCH_INDEX ?=
# PyPI's onnxruntime reports its use to its maker otherwise.
export ORT_DISABLE_TELEMETRY := 1
BIN := .venv/bin
CHECKPOINT := build/demo-checkpoint

.PHONY: serve models test test-full lint perf bench clean

serve: models  ## Start Triton and the gateway on http://127.0.0.1:7860
	exec $(BIN)/python -m server

models: .venv/serve.installed  ## Export the demo checkpoint, unless real weights are in model_repository already
	@if ls model_repository/llm_*/1/export.json >/dev/null 2>&1 && ! grep -qs step_audio_triton_demo model_repository/llm_*/1/config.json; \
	then echo "model_repository holds weights of your own: left as they are"; \
	else [ -e $(CHECKPOINT)/complete ] || $(BIN)/python -m export demo --out $(CHECKPOINT); \
	     $(BIN)/python -m export build --checkpoint $(CHECKPOINT); fi
	$(BIN)/python -m export defaults

test: .venv/dev.installed models lint  ## Lint and every test, in scaled-down counts (minutes)
	$(BIN)/python -m pytest -m "not full"

test-full: .venv/dev.installed models lint  ## The counts the project quotes
	$(BIN)/python -m pytest

lint: .venv/dev.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

perf: .venv/dev.installed models  ## perf_analyzer on every model, table on screen, CSV in out/perf
	$(BIN)/python -m benchmarks.perf

bench: .venv/dev.installed  ## Each stage at the released sizes, side by side with its baseline
	$(BIN)/python -m benchmarks.stages
	$(BIN)/python -m benchmarks.llm
	$(BIN)/python -m benchmarks.gateway_overhead
	$(BIN)/python -m benchmarks.gateway_load
	$(BIN)/python -m benchmarks.voice_cache

.venv/serve.installed: pyproject.toml constraints.txt
	[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	[ -z "$(TORCH_INDEX)" ] || $(BIN)/pip install -c constraints.txt torch --index-url $(TORCH_INDEX)
	$(BIN)/pip install -c constraints.txt -e ".[gateway,serve]"
	touch $@

.venv/dev.installed: .venv/serve.installed
	$(BIN)/pip install -c constraints.txt -e ".[dev]"
	$(BIN)/pip install --no-deps --upgrade --target .venv/openai1 openai==1.109.1 distro==1.9.0
	touch $@

clean:  ## Remove what was built; keeps .venv
	rm -rf build out .pytest_cache .mypy_cache .ruff_cache *.egg-info
	rm -rf model_repository/*_bnb model_repository/*_bnb_* model_repository/*_awq model_repository/*_awq_*
	find model_repository -mindepth 3 -maxdepth 3 -type f ! -name model.py ! -name .gitkeep -delete
