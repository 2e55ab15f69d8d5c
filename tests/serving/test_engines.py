"""ONNX and OpenVINO files, run by ONNX Runtime and OpenVINO."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_convnext import Predictor
from keras_convnext.data.sources.digits import digits
from keras_convnext.errors import MissingPackage, RunError
from keras_convnext.serving import onnx_model, openvino_model, quantization
from keras_convnext.serving.onnx_model import write_onnx
from keras_convnext.serving.openvino_model import write_openvino

NAMES = ("vier", "fünf", *"abcde")
IMAGES = np.random.default_rng(0).uniform(0, 255, (5, 16, 16, 3)).astype("float32")

# Each runs a file on batches of three sizes, and gives its results and what it carries along.
RUNTIMES = {
    "model.onnx": """
import onnxruntime

session = onnxruntime.InferenceSession(path)
types = {"tensor(float)": "float32"}
inputs = {one.name: [types[one.type], one.shape[1:]] for one in session.get_inputs()}
metadata = session.get_modelmeta().custom_metadata_map
results = [session.run(["probabilities"], {"images": images[:n]})[0] for n in (1, 3, 5)]
""",
    "model.xml": """
import openvino

model = openvino.Core().read_model(path)
inputs = {
    one.any_name: [
        one.element_type.to_dtype().name,
        [side.get_length() for side in list(one.partial_shape)[1:]],
    ]
    for one in model.inputs
}
metadata = {
    name: model.get_rt_info(["keras_convnext", name]).value
    for name in (
        *("class_names", "image_size", "crop_fraction", "channels"),
        *("apply_orientation", "interpolation", "warp_from", "multi_label"),
    )
}
compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
results = [compiled(images[:n])["probabilities"] for n in (1, 3, 5)]
""",
}
SERVER = """
import json, sys
import numpy as np

path, images = sys.argv[1], np.load(sys.argv[2])
{runtime}
ours = [name for name in sys.modules if name.split(".")[0] in ("keras", "keras_convnext")]
document = {{"inputs": inputs, "metadata": metadata, "ours": ours}}
print(json.dumps({{**document, "results": [result.tolist() for result in results]}}))
"""


def served(path, images, folder):
    """What a process gives that has the engine, and nothing of ours."""
    np.save(folder / "images.npy", images)
    code = SERVER.format(runtime=RUNTIMES[path.name])
    process = subprocess.run(
        [sys.executable, "-c", code, path, folder / "images.npy"], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def predictor(classifier):
    return Predictor.of_model(classifier(), NAMES)


@pytest.fixture(scope="module", params=[write_onnx, write_openvino])
def write(request):
    return request.param


@pytest.fixture(scope="module")
def name(write):
    return "model.onnx" if write is write_onnx else "model.xml"


@pytest.mark.tensorflow_first
def test_an_engine_gives_the_classifiers_probabilities(predictor, write, name, tmp_path):
    write(predictor, tmp_path / "new" / name)
    found = served(tmp_path / "new" / name, IMAGES, tmp_path)
    assert found["inputs"] == {"images": ["float32", [16, 16, 3]]}
    assert found["ours"] == []
    metadata = {key: json.loads(value) for key, value in found["metadata"].items()}
    assert metadata == {
        "class_names": list(NAMES),
        "image_size": 16,
        "crop_fraction": 0.875,
        "channels": 3,
        "apply_orientation": True,
        "interpolation": "bicubic",
        "warp_from": 384,
        "multi_label": False,
    }
    expected = predictor.classifier.predict(IMAGES, verbose=0)
    assert expected.std() > 0.01  # or any output would do
    for result in found["results"]:
        np.testing.assert_allclose(result, expected[: len(result)], atol=1e-5)


@pytest.mark.slow
@pytest.mark.backend_free
def test_a_classifier_of_half_precision_is_exported_in_float32(classifier, write, name, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = classifier()
    finally:
        keras.config.set_dtype_policy("float32")
    exact = classifier()
    exact.set_weights([weight.astype("float32") for weight in half.get_weights()])
    write(Predictor.of_model(half), tmp_path / name)
    expected = Predictor.of_model(exact).classifier.predict(IMAGES, verbose=0)
    for result in served(tmp_path / name, IMAGES, tmp_path)["results"]:
        np.testing.assert_allclose(result, expected[: len(result)], atol=1e-5)


@pytest.mark.slow
@pytest.mark.backend_free
def test_integers_come_near_the_floating_point_numbers(trained, write, name, tmp_path):
    """On a trained classifier, whose images chose the integers' ranges."""
    predictor = Predictor.load(trained[0].path)
    images = np.stack([predictor.preprocessor(image) for image in digits()[1].images])
    write(predictor, tmp_path / name, images[::3])
    found = served(tmp_path / name, images[:5], tmp_path)["results"][-1]
    expected = predictor.classifier.predict(images[:5], verbose=0)
    assert 0 < np.abs(found - expected).max() < 0.05


@pytest.mark.backend_free
@pytest.mark.parametrize("taken", ["model.onnx", "model.xml", "model.bin"])
def test_existing_files_are_not_replaced(predictor, tmp_path, taken):
    (tmp_path / taken).write_text("mine")
    write = write_onnx if taken == "model.onnx" else write_openvino
    with pytest.raises(RunError, match=f"{taken} exists already; remove it, or choose another"):
        write(predictor, (tmp_path / taken).with_suffix(".onnx" if write is write_onnx else ".xml"))
    assert [path.name for path in tmp_path.iterdir()] == [taken]


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("module", "missing", "sentence"),
    [
        (onnx_model, "onnxscript", r"which write ONNX.*\[onnx\]"),
        (openvino_model, "openvino", r"OpenVINO.*\[openvino\]"),
        (quantization, "nncf", r"NNCF.*\[int8\]"),
    ],
)
def test_missing_packages_are_asked_for(
    predictor, tmp_path, monkeypatch, module, missing, sentence
):
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == missing else name)
    write = write_onnx if module is onnx_model else write_openvino
    with pytest.raises(MissingPackage, match=sentence):
        write(predictor, tmp_path / "model", IMAGES)
    assert list(tmp_path.iterdir()) == []
