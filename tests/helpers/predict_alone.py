"""Predicts, evaluates and exports; prints the results as JSON, and whether TensorFlow was there.

python predict_alone.py MODEL IMAGES FOLDER
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import openvino

from keras_convnext import Predictor, evaluate, export

EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


def main(model: str, images: Path, folder: Path) -> None:
    predictor = Predictor.load(model)
    files = sorted(images.rglob("*.*"))
    prepared = np.stack([predictor.preprocessor(file) for file in files])
    onnx = export(model, folder / "model.onnx", "onnx")
    xml = export(model, folder / "model.xml", "openvino")
    session = onnxruntime.InferenceSession(onnx)
    compiled = openvino.Core().compile_model(xml, "CPU", EXACT)
    results = {
        "predicted": predictor.classifier.predict(prepared, verbose=0).tolist(),
        "labels": [best.label for [best] in predictor.predict(files, top=1)],
        "evaluated": evaluate(model, images).summary(),
        "onnx": session.run(None, {"images": prepared})[0].tolist(),
        "openvino": compiled({"images": prepared})[0].tolist(),
        "backend": keras.backend.backend(),
        "tensorflow": "tensorflow" in sys.modules,
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
