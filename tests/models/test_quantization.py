import keras
import numpy as np
import pytest

from keras_convnext.models import ConvNeXt

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")


# Keras says of every layer without an integer form that it has none.
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
def test_an_int8_model_is_close_and_comes_back_from_its_file(toy, tmp_path):
    model = ConvNeXt(**toy, input_shape=(32, 32, 3), classes=5, classifier_activation=None)
    exact = model.predict(IMAGES, verbose=0)
    model.quantize("int8")
    quantized = model.predict(IMAGES, verbose=0)
    assert 0 < np.abs(quantized - exact).max() < 0.02 * np.abs(exact).max()

    for _ in range(2):  # what was loaded is saved and loaded again
        model.save(tmp_path / "int8.keras")
        model = keras.saving.load_model(tmp_path / "int8.keras")
        assert model.get_layer("stages_1_blocks_0").pointwise_conv_1.quantization_mode == "int8"
        np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), quantized)
