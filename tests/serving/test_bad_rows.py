"""Files that are not images, in a batch of a SavedModel with others that are."""

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_convnext import Predictor
from keras_convnext.serving.guarded_files import DAMAGED, NOT_AN_IMAGE, TOO_LARGE
from keras_convnext.serving.saved_model import write_saved_model

pytestmark = pytest.mark.backend_free

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 61, 3), dtype="uint8"))


def encoded(format, image=RGB, **settings):
    file = io.BytesIO()
    image.save(file, format, **settings)
    return file.getvalue()


def claiming(width, height):
    """Returns a PNG whose header gives another size than it has."""
    png = encoded("PNG")
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    header = png[12:16] + size + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]


def animation(frames):
    random = np.random.default_rng(1)
    images = [
        Image.fromarray(random.integers(0, 256, (9, 9), dtype="uint8")) for _ in range(frames)
    ]
    return encoded("GIF", images[0], save_all=True, append_images=images[1:])


GOOD = {
    "JPEG": encoded("JPEG"),
    "PNG": encoded("PNG"),
    "WebP": encoded("WEBP"),
    "lossless WebP": encoded("WEBP", lossless=True),
    "BMP": encoded("BMP"),
    "GIF of 1000 frames": animation(1000),
    "CMYK": encoded("JPEG", RGB.convert("CMYK")),
    "grey": encoded("PNG", RGB.convert("L")),
    "16 bits": encoded("PNG", Image.fromarray(np.arange(999, dtype="uint16").reshape(27, 37) * 60)),
}
BAD = {
    "text": (b"Paris, in May", NOT_AN_IMAGE),
    "nothing": (b"", NOT_AN_IMAGE),
    "HTML": (b"<html>404</html>", NOT_AN_IMAGE),
    "half a JPEG": (GOOD["JPEG"][: len(GOOD["JPEG"]) // 2], DAMAGED),
    "half a PNG": (GOOD["PNG"][: len(GOOD["PNG"]) // 2], DAMAGED),
    "the start of a JPEG": (b"\xff\xd8\xff\xe0", DAMAGED),
    "an empty WebP": (b"RIFF\0\0\0\0WEBPVP8 ", DAMAGED),
    "a PNG of no pixels": (claiming(0, 10), DAMAGED),
    "a PNG of 50,000 x 50,000": (claiming(50_000, 50_000), TOO_LARGE),
    "a PNG of 100,000,001": (claiming(100_000_001, 1), TOO_LARGE),
}


@pytest.fixture(scope="module")
def serve(classifier, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "1"
    write_saved_model(Predictor.of_model(classifier()), path)
    signature = tf.saved_model.load(str(path)).signatures["serve_files"]

    def serve(files):
        found = signature(files=tf.constant(files, tf.string))
        return {name: value.numpy() for name, value in found.items()}

    return serve


@pytest.fixture(scope="module")
def alone(serve):
    """The outputs of each good file by itself."""
    return {name: serve([file]) for name, file in GOOD.items()}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_has_no_error(alone, name):
    assert alone[name]["errors"].tolist() == [b""]
    np.testing.assert_allclose(alone[name]["probabilities"].sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_says_what_is_wrong(serve, name):
    file, sentence = BAD[name]
    found = serve([file])
    assert found["errors"][0].decode() == sentence
    assert not found["scores"].any() and not found["probabilities"].any()
    assert set(found["labels"][0]) == {b""}


@pytest.mark.parametrize("count", [0, 1, 16, 32])
def test_other_rows_are_as_if_it_had_not_been_there(serve, alone, count):
    random = np.random.default_rng(count)
    names = random.choice(list(GOOD), 32)
    is_bad = random.permutation(np.arange(32) < count)
    bad = [BAD[name][0] for name in random.choice(list(BAD), 32)]
    files = [bad[i] if is_bad[i] else GOOD[name] for i, name in enumerate(names)]
    found = serve(files)
    assert (found["errors"] != b"").tolist() == is_bad.tolist()
    for i in np.flatnonzero(~is_bad):
        for output, values in alone[names[i]].items():
            if output in ("scores", "probabilities"):
                np.testing.assert_allclose(found[output][i], values[0], rtol=1e-4, atol=1e-6)
            else:
                np.testing.assert_array_equal(found[output][i], values[0])


def test_an_empty_batch_is_answered(serve):
    assert serve([])["errors"].shape == (0,)


def test_a_size_that_a_header_claims_takes_no_memory(serve):
    def memory(name):
        lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        return int(lines[name].split()[0]) // 1024

    file, _ = BAD["a PNG of 50,000 x 50,000"]
    serve([file])
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the present use from now on
    before = memory("VmRSS")
    serve([file] * 8)
    assert memory("VmHWM") - before < 200
