"""The official groups, derived by hand from `optim_factory.py` and the paper."""

import keras
import pytest

import keras_convnext
from keras_convnext.catalog.architectures import VARIANTS
from keras_convnext.optimizers.layer_decay import lr_multipliers

pytestmark = pytest.mark.backend_free


def paths(depths):
    layers = ["stem/conv", "stem/norm", "head_norm", "head"]
    for stage, depth in enumerate(depths):
        if stage:
            layers.append(f"stages_{stage}_downsampling/conv")
        layers += [f"stages_{stage}_blocks_{block}/norm" for block in range(depth)]
    return [f"{layer}/weight" for layer in layers]


def scale_of(depths, decay):
    names = paths(depths)
    return dict(zip(names, lr_multipliers(names, decay), strict=True))


@pytest.mark.parametrize(("decay", "stem"), [(0.7, 0.00969), (0.8, 0.05498)])
def test_small_to_xlarge_have_twelve_groups_between_stem_and_head(decay, stem):
    scales = scale_of((3, 3, 27, 3), decay)
    assert scales["stem/conv/weight"] == pytest.approx(stem, abs=5e-6)
    assert len(set(scales.values())) == 14
    exponents = {
        "stem/norm": 13,
        "stages_0_blocks_2/norm": 12,
        "stages_1_downsampling/conv": 11,
        "stages_1_blocks_0/norm": 11,
        "stages_2_downsampling/conv": 10,
        "stages_2_blocks_2/norm": 10,
        "stages_2_blocks_3/norm": 9,
        "stages_2_blocks_26/norm": 2,
        "stages_3_downsampling/conv": 1,
        "stages_3_blocks_2/norm": 1,
        "head_norm": 0,
        "head": 0,
    }
    for layer, exponent in exponents.items():
        assert scales[f"{layer}/weight"] == pytest.approx(decay**exponent), layer


def test_tiny_has_six():
    scales = scale_of((3, 3, 9, 3), 0.8)
    assert scales["stem/conv/weight"] == pytest.approx(0.8**7)
    assert scales["stages_2_blocks_8/norm/weight"] == pytest.approx(0.8**2)


def test_layers_outside_the_network_have_the_full_rate():
    assert lr_multipliers(["stages_0_blocks_0/norm/beta", "dense/kernel"], 0.5) == [0.5, 1.0]


def test_layers_are_found_inside_another_model():
    names = ["classifier/kernel", "convnext_tiny/stem/conv/kernel"]
    assert lr_multipliers(names, 0.5) == [1.0, 0.5]


def test_the_layers_of_another_network_are_one_group():
    names = ["conv1_conv/kernel", "conv2_block1_1_conv/kernel", "conv5_block3_3_bn/gamma"]
    assert lr_multipliers([*names, "predictions/bias"], 0.5) == [1.0] * 4


def test_a_group_may_be_a_block_or_a_stage():
    names = paths((1, 2, 3))
    assert lr_multipliers(names, 0.5, "block") == [0.5**7] * 2 + [1.0] * 2 + [0.5**6] + [
        0.5**5,
        0.5**5,
        0.5**4,
        0.5**3,
        0.5**3,
        0.5**2,
        0.5**1,
    ]
    assert (
        lr_multipliers(names, 0.5, "stage")
        == [0.5**4] * 2 + [1.0] * 2 + [0.5**3] + [0.5**2] * 3 + [0.5] * 4
    )


def official_group(name, depths):
    """The layer's number in the official `optim_factory.py`, for any depth of the third stage."""
    deepest = depths[2] // 3 + 3
    if name.startswith("stem"):
        return 0
    if name.startswith("head"):
        return deepest + 1
    _, stage, kind, *block = name.split("/")[0].split("_")
    if kind == "downsampling":
        return {"1": 2, "2": 3, "3": deepest}[stage]
    return {"0": 1, "1": 2, "2": 3 + int(block[0] if block else 0) // 3, "3": deepest}[stage]


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "decayed", "golden"),
    [
        ("convnext_tiny", 59, "tiny"),
        ("convnext_small", 113, "small_to_xlarge"),
        ("convnext_base", 113, "small_to_xlarge"),
        ("convnext_xlarge", 113, "small_to_xlarge"),
    ],
)
def test_parameter_groups_are_the_official_ones(name, decayed, golden, matches_golden):
    with keras.StatelessScope(initialize_variables=False):
        model = keras_convnext.create_model(name)
    keras.utils.clear_session(free_memory=False)
    weights = model.trainable_weights
    depths = VARIANTS[name].depths
    scales = lr_multipliers([weight.path for weight in weights], 0.8)
    decays = [len(weight.shape) > 1 for weight in weights]

    assert sum(decays) == decayed
    groups = [official_group(weight.path, depths) for weight in weights]
    assert scales == pytest.approx([0.8 ** (max(groups) - group) for group in groups])
    lines = [
        f"{weight.path} {'decayed' if decay else '-'} {scale:.6f}\n"
        for weight, decay, scale in zip(weights, decays, scales, strict=True)
    ]
    matches_golden(f"parameter_groups/{golden}.txt", "".join(lines))
