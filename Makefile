# Every target creates .venv itself; it needs Python 3.11 or newer and nothing else.
#
#   make demo        train, evaluate, export and use a digit classifier, on TensorFlow
#   make test        the tests, on TensorFlow, JAX and PyTorch: 17 minutes on 2 cores
#   make test-slow   the others: whole runs, kills, pages and examples; as long again
#   make check       format, lint, types and the tests on one backend: before every commit
#   make docs        the documentation, into site/; any warning is an error
#   make docs-serve  the documentation at http://localhost:8000, rebuilt while you write
#   make bench       the benchmarks whose results the documentation shows
#   make golden      refresh the golden texts in tests/golden; review the difference

PYTHON ?= python3
BACKENDS := tensorflow jax torch
BACKEND ?= tensorflow
BIN := .venv/bin
# One process a core. The tests of a file share fixtures, so they stay in one process.
PARALLEL := -n logical --dist loadfile --no-loadscope-reorder --durations=25
# Toy networks compile longer than they compute. The tests of the kernels turn this off again.
QUICK_JAX := JAX_DISABLE_MOST_OPTIMIZATIONS=1
# Networks of the paper's table 1, or the nearest ones in keras.applications and timm, at the sizes
# they are published for.
TABLE_1 := ResNet50 ResNet101 EfficientNetB4@380 EfficientNetV2S@384 timm:resnet50 \
    timm:regnety_040 timm:efficientnet_b4@380 timm:tf_efficientnetv2_s@384 \
    timm:deit_small_patch16_224 timm:swin_tiny_patch4_window7_224
INSTALL = $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable

.PHONY: demo test test-slow check lint docs docs-serve bench golden clean

demo: .venv/demo.installed
	KERAS_BACKEND=tensorflow $(BIN)/keras-convnext train recipes/quickstart/digits.yaml \
	    --run-dir runs/demo --overwrite
	KERAS_BACKEND=tensorflow $(BIN)/keras-convnext predict runs/demo examples/digit.png --top 3
	@echo "Look at runs/demo/report: curves.png, confusion_matrix.png and mistakes.png."

test: .venv/test.installed
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest $(PARALLEL) -m "not slow"
	@set -e; for backend in jax torch; do \
	    echo "== $$backend"; \
	    KERAS_BACKEND=$$backend $(QUICK_JAX) $(BIN)/python -m pytest $(PARALLEL) \
	        -m "not (slow or backend_free or tensorflow_first)"; \
	done

test-slow: .venv/test.installed
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest $(PARALLEL) -m slow
	@set -e; for backend in jax torch; do \
	    echo "== $$backend"; \
	    KERAS_BACKEND=$$backend $(BIN)/python -m pytest $(PARALLEL) \
	        -m "(slow or tensorflow_first) and not backend_free"; \
	done

check: lint
	KERAS_BACKEND=$(BACKEND) $(BIN)/python -m pytest $(PARALLEL) -m "not slow"

lint: .venv/test.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .venv/docs.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: .venv/docs.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

bench: .venv/test.installed
	@set -e; for backend in $(BACKENDS); do \
	    $(BIN)/keras-convnext benchmark --backend $$backend --peer keras.applications \
	        --precision float32 --output benchmarks/results/speed/$$backend; \
	    $(BIN)/keras-convnext benchmark --backend $$backend --peer timm \
	        --output benchmarks/results/speed/$${backend}_timm; \
	    $(BIN)/keras-convnext benchmark --backend $$backend --peer timm --batch-size 1 --rounds 15 \
	        --output benchmarks/results/speed/$${backend}_timm_one_image; \
	done
	$(BIN)/keras-convnext benchmark $(BACKENDS:%=--backend %) --peer "timm compiled" \
	    --task forward --rounds 15 --output benchmarks/results/speed/timm_compiled
	$(BIN)/keras-convnext benchmark --model convnext_base $(BACKENDS:%=--backend %) \
	    --peer timm --precision float32 --output benchmarks/results/speed/base
	$(BIN)/keras-convnext benchmark --backend tensorflow --peer timm --precision float32 --task forward \
	    $(TABLE_1:%=--compare %) --output benchmarks/results/speed/table_1
	$(BIN)/python benchmarks/matmuls.py --save
	$(BIN)/python benchmarks/start.py --save
	$(BIN)/python benchmarks/deployed.py --save
	$(BIN)/python benchmarks/digits.py --save
	$(BIN)/python benchmarks/input.py --save
	$(BIN)/python benchmarks/predict_files.py --save
	$(BIN)/python benchmarks/digits_on_devices.py --save
	$(BIN)/python benchmarks/distribution.py --save
	$(BIN)/python benchmarks/scaling.py --save
	$(BIN)/python benchmarks/speed_chart.py

golden: .venv/test.installed
	UPDATE_GOLDEN=1 KERAS_BACKEND=$(BACKEND) $(BIN)/python -m pytest -m golden

clean:
	rm -rf .venv runs site

.venv/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed; name it with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

.venv/demo.installed: .venv/created pyproject.toml constraints.txt
	$(INSTALL) '.[train]'
	@touch $@

.venv/docs.installed: .venv/created pyproject.toml constraints.txt
	$(INSTALL) '.[docs]'
	@touch $@

.venv/test.installed: .venv/created pyproject.toml constraints.txt
	$(INSTALL) '.[test]'
	@touch $@
