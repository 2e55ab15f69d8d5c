"""Run by test_saving.py as a process of its own, with KERAS_BACKEND set and a folder as argument.

Loads what the test's process saved on another backend, and writes what comes out.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np

import keras_convnext  # noqa: F401  (makes its layers known to Keras)

folder = Path(sys.argv[1])
backend = keras.backend.backend()
data = np.load(folder / "data.npz")

plain = keras.saving.load_model(folder / "plain.keras")
outputs = plain.predict(data["images"], verbose=0)

compiled = keras.saving.load_model(folder / "compiled.keras")
# The file says whether to compile the step, as was best where it was saved. Here it may not be: JAX
# is slow without, and PyTorch takes most of a minute to compile.
compiled.jit_compile = backend == "jax"
steps_before = int(compiled.optimizer.iterations)
history = compiled.fit(
    data["images"], data["labels"], batch_size=len(data["labels"]), epochs=3, verbose=0
)

np.save(folder / f"outputs_{backend}.npy", outputs)
found = {
    "backend": backend,
    "optimizer": type(compiled.optimizer).__name__,
    "steps_before": steps_before,
    "steps_after": int(compiled.optimizer.iterations),
    "losses": history.history["loss"],
}
(folder / f"found_{backend}.json").write_text(json.dumps(found), encoding="utf-8")
