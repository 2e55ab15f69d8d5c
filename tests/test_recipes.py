"""Every recipe of the package: its header, its numbers against the paper, and two updates."""

import functools
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_convnext import ConvNeXt, save_weights
from keras_convnext.data.pipeline import training_dataset
from keras_convnext.data.sources.load import load_splits
from keras_convnext.recipe import Recipe, load_recipe
from keras_convnext.recipe.shipped import read_header
from keras_convnext.runs.plan import make_plan
from keras_convnext.tasks.classification.task import CLASSIFICATION
from keras_convnext.training.model import build_model, initialize

RECIPES = {
    "quickstart": ["digits", "folder"],
    "imagenet1k": [f"convnext_{size}" for size in ("tiny", "small", "base", "large")],
    "imagenet22k": [f"convnext_{size}" for size in ("tiny", "small", "base", "large", "xlarge")],
    "finetune": [
        "convnext_base_1k_384",
        "convnext_large_1k_384",
        *(
            f"convnext_{size}_22k_1k_{pixels}"
            for size in ("tiny", "small", "base", "large", "xlarge")
            for pixels in (224, 384)
        ),
    ],
    "isotropic": [f"convnext_isotropic_{size}" for size in ("small", "base", "large")],
    "resnet50": ["standard", "timm", "torchvision"],
    "transfer": ["fine_tune", "head_only"],
}
NAMES = [f"{folder}/{name}" for folder, names in RECIPES.items() for name in names]
# One of each kind; the others differ from them in numbers only, and run on one backend.
OF_A_KIND = [
    "quickstart/digits",
    "imagenet1k/convnext_tiny",
    "imagenet22k/convnext_base",
    "finetune/convnext_xlarge_22k_1k_224",
    "isotropic/convnext_isotropic_small",
    "resnet50/timm",
    "resnet50/torchvision",
    "transfer/head_only",
]
# The numbers of the others are compared with the paper's tables below.
GOLDEN = [*OF_A_KIND, "quickstart/folder", "resnet50/standard", "transfer/fine_tune"]
EVERY = [
    pytest.param(
        name,
        marks=[pytest.mark.tensorflow_first]
        if name in OF_A_KIND
        else [pytest.mark.backend_free, pytest.mark.slow],
    )
    for name in NAMES
]
ACCUMULATION = 2
STEP = 4
CLASSES = 3


@pytest.fixture(scope="session")
def load(recipes):
    """Loads a recipe by its name, with a folder where it asks for one."""

    def load(name):
        path = recipes / f"{name}.yaml"
        asks = "path: null" in path.read_text()
        return load_recipe(path, ["data.path=DIR"] if asks else [])

    return load


@pytest.mark.backend_free
def test_these_are_all_recipes(recipes):
    found = {str(path.relative_to(recipes).with_suffix("")) for path in recipes.rglob("*.yaml")}
    assert found == set(NAMES) and len(NAMES) == 31


@pytest.mark.backend_free
@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDEN)
def test_it_resolves_to_its_golden_text(load, matches_golden, name):
    matches_golden(f"recipes/{name}.yaml", load(name).to_yaml())


@pytest.mark.backend_free
@pytest.mark.parametrize("name", NAMES)
def test_its_header_says_how_to_run_it(recipes, load, name):
    header = [
        line for line in (recipes / f"{name}.yaml").read_text().splitlines() if line[:1] == "#"
    ]
    command = next(line for line in header if "keras-convnext train" in line)
    assert f"keras-convnext train {name}" in command
    assert ("data.path=DIR" in command) == (load(name).data.source == "folder")
    for word in ("Expected:", "Devices:"):
        assert any(line.startswith(f"# {word}") for line in header), word
    # The official command's number of GPUs is that of the steps of an update.
    devices = read_header(name).devices
    if "GPUs" in devices:
        steps = load(name).optimizer.gradient_accumulation_steps
        assert devices.startswith(f"1 ({steps} GPUs in the ")


@pytest.mark.backend_free
def test_no_two_runs_share_a_directory(load):
    assert len({load(name).name for name in NAMES}) == len(NAMES)


# "A ConvNet for the 2020s", table 5, and the official commands in TRAINING.md.
DROP_PATH = {
    "imagenet1k": {"tiny": 0.1, "small": 0.4, "base": 0.5, "large": 0.5},
    "imagenet22k": {"tiny": 0.0, "small": 0.0, "base": 0.1, "large": 0.1, "xlarge": 0.2},
    "isotropic": {"small": 0.1, "base": 0.2, "large": 0.5},
}
PRETRAINING = [(kind, size) for kind, rates in DROP_PATH.items() for size in rates]


@pytest.mark.backend_free
@pytest.mark.parametrize(("kind", "size"), PRETRAINING)
def test_pretraining_is_table_5(load, kind, size):
    recipe = load(f"{kind}/convnext_{'isotropic_' * (kind == 'isotropic')}{size}")
    optimizer, schedule, augment = recipe.optimizer, recipe.schedule, recipe.augment
    epochs = {"imagenet1k": (300, 20), "imagenet22k": (90, 5), "isotropic": (300, 50)}[kind]
    assert (schedule.epochs, schedule.warmup_epochs) == epochs
    assert (schedule.name, schedule.learning_rate) == ("cosine", 4e-3)
    assert schedule.final_learning_rate == 1e-6
    assert (recipe.data.batch_size, recipe.data.image_size) == (4096, 224)
    assert (optimizer.name, optimizer.weight_decay, optimizer.epsilon) == ("adamw", 0.05, 1e-8)
    assert (optimizer.beta_1, optimizer.beta_2) == (0.9, 0.999)
    assert (optimizer.global_clipnorm, optimizer.layer_decay) == (None, None)
    assert optimizer.ema_decay == (None if kind == "imagenet22k" else 0.9999)
    assert recipe.model.drop_path_rate == DROP_PATH[kind][size]
    assert recipe.model.head_init_scale == 1
    is_scaled = kind != "isotropic" or size == "large"
    assert recipe.model.layer_scale_init_value == (1e-6 if is_scaled else None)
    assert_augmented_as_in_the_paper(augment)
    assert (augment.mixup_alpha, augment.cutmix_alpha) == (0.8, 1.0)
    assert (augment.mix_probability, augment.switch_probability) == (1.0, 0.5)


def assert_augmented_as_in_the_paper(augment):
    rand_augment = augment.rand_augment.model_dump()
    assert augment.policy == "paper" and augment.random_resized_crop.area == (0.08, 1)
    assert augment.random_resized_crop.ratio == pytest.approx((3 / 4, 4 / 3))
    assert (rand_augment["operations"], rand_augment["probability"]) == (2, 0.5)
    assert (rand_augment["magnitude"], rand_augment["magnitude_std"]) == (0.9, 0.05)
    assert (augment.random_erasing, augment.label_smoothing) == (0.25, 0.1)
    assert (augment.horizontal_flip, augment.repeated_augmentation) == (0.5, 1)


@pytest.mark.backend_free
@pytest.mark.parametrize("name", RECIPES["finetune"])
def test_fine_tuning_is_table_6(load, name):
    recipe = load(f"finetune/{name}")
    _, size, classes, *_ = name.split("_")
    is_from_22k = classes == "22k"
    optimizer, schedule, augment = recipe.optimizer, recipe.schedule, recipe.augment
    drop_path = {"tiny": 0, "small": 0.1, "base": 0.2, "large": 0.3, "xlarge": 0.4}
    if not is_from_22k:
        drop_path = {"base": 0.8, "large": 0.95}
    assert recipe.model.drop_path_rate == drop_path[size]
    assert (schedule.epochs, schedule.warmup_epochs) == (30, 0)
    assert (schedule.learning_rate, schedule.final_learning_rate) == (5e-5, 1e-6)
    assert (recipe.data.batch_size, recipe.data.image_size) == (512, int(name[-3:]))
    assert optimizer.weight_decay == 1e-8
    assert optimizer.layer_decay == (0.8 if is_from_22k else 0.7)
    assert optimizer.layer_decay_rule == "group"
    assert optimizer.ema_decay == (0.9999 if size == "xlarge" else None)
    assert recipe.model.head_init_scale == 0.001
    assert_augmented_as_in_the_paper(augment)
    assert (augment.mixup_alpha, augment.cutmix_alpha) == (0, 0)
    starts = {
        "base_1k": "https://dl.fbaipublicfiles.com/convnext/convnext_base_1k_224.pth",
        "large_1k": "convnext_large.fb_in1k",
    }
    assert recipe.init.weights == starts.get(f"{size}_{classes}", f"convnext_{size}.fb_in22k")


@pytest.mark.backend_free
def test_imagenet_1k_takes_the_papers_updates(load):
    plan = make_plan(load("imagenet1k/convnext_tiny"), 1_281_167, 50_000, 1000)
    assert (plan.updates_per_epoch, plan.total_updates) == (312, 93_600)
    assert (plan.warmup_updates, plan.steps_per_epoch) == (6_240, 312 * 32)


@pytest.fixture(scope="session")
def images(write_images, tmp_path_factory):
    values = {
        f"{split}/{name}/{number}.png": 80 * place + number
        for split in ("train", "val")
        for place, name in enumerate("abc")
        for number in range(6)
    }
    return write_images(tmp_path_factory.mktemp("images"), values, size=(40, 36))


@pytest.fixture(scope="session")
def toy_of(load, images, tmp_path_factory):
    """Returns a recipe's like that takes seconds: a small network, images and updates."""

    def toy_of(name) -> Recipe:
        settings = load(name).model_dump()
        settings["data"] |= {"source": "folder", "dataset": None, "path": str(images)}
        settings["data"] |= {"image_size": 32, "batch_size": STEP * ACCUMULATION}
        if settings["data"]["validation_split"] is not None:
            settings["data"]["validation_split"] = "val"
        settings["optimizer"]["gradient_accumulation_steps"] = ACCUMULATION
        if settings["model"]["name"] != "resnet50":
            # At the paper's 0.95 a block might be left out in both updates, and not move.
            rate = min(settings["model"]["drop_path_rate"], 0.5)
            settings["model"]["drop_path_rate"] = rate
            is_isotropic = "isotropic" in name
            settings["model"]["name"] = None
            settings["model"]["depths"] = [2] if is_isotropic else [1, 1]
            settings["model"]["dims"] = [8] if is_isotropic else [8, 12]
        recipe = Recipe.model_validate(settings)
        if recipe.init.weights is None:
            return recipe
        # The published weights' place is taken by those of a network of other classes.
        path = tmp_path_factory.mktemp("weights") / "pretrained.safetensors"
        save_weights(ConvNeXt(recipe.network.depths, recipe.network.dims, classes=7), path)
        settings["init"]["weights"] = str(path)
        return Recipe.model_validate(settings)

    return toy_of


@pytest.fixture(scope="session")
def batches():
    """Returns the steps of one epoch; recipes that augment alike share them.

    They are drawn once: RandAugment's graph takes seconds to build, and again to start. It is of
    TensorFlow under every backend, so the others train without it.
    """

    @functools.cache
    def batches(data, augment, seed, step_batch_size):
        training, _ = load_splits(data)
        if keras.backend.backend() != "tensorflow":
            augment = augment.model_copy(update={"rand_augment": None})
        dataset = training_dataset(
            training, data, augment, epochs=1, seed=seed, step_batch_size=step_batch_size
        )
        drawn = zip(*dataset.take(2 * ACCUMULATION).as_numpy_iterator(), strict=True)
        return tf.data.Dataset.from_tensor_slices(tuple(np.stack(part) for part in drawn))

    return batches


def small_resnet(weights, input_tensor, classes, classifier_activation):
    """Takes the place of the ResNet-50 of `keras.applications`: one block, with its layers."""
    layers = keras.layers
    stem = layers.Conv2D(4, 7, strides=2, padding="same", name="conv1_conv")(input_tensor)
    stem = layers.Activation("relu")(layers.BatchNormalization(name="conv1_bn")(stem))
    branch = layers.Conv2D(4, 3, padding="same", name="conv2_block1_1_conv")(stem)
    branch = layers.BatchNormalization(name="conv2_block1_1_bn")(branch)
    output = layers.Activation("relu")(layers.Add()([stem, branch]))
    output = layers.GlobalAveragePooling2D()(output)
    output = layers.Dense(classes, classifier_activation, name="predictions")(output)
    return SimpleNamespace(output=output)


@pytest.mark.parametrize("name", EVERY)
def test_it_trains_two_updates(toy_of, batches, monkeypatch, name):
    recipe = toy_of(name)
    if name in OF_A_KIND:  # the whole ResNet-50 trains once, on one backend, by another recipe
        monkeypatch.setattr(keras.applications, "ResNet50", small_resnet)
    plan = make_plan(recipe, 2 * recipe.data.batch_size, 0, CLASSES)
    model = build_model(recipe, CLASSES)
    initialize(model, recipe.init)
    CLASSIFICATION.compile_model(model, recipe, plan)
    # Compiling takes longer than all else together, so only one of a kind is compiled.
    model.run_eagerly = name not in OF_A_KIND
    before = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    kernels = [weight.path for weight in model.trainable_weights if len(weight.shape) > 1]

    data = batches(recipe.data, recipe.augment, recipe.runtime.seed, recipe.step_batch_size)
    history = model.fit(data, steps_per_epoch=plan.steps_per_epoch, shuffle=False, verbose=0)

    assert int(model.optimizer.iterations) == 2
    assert np.isfinite(history.history["loss"]).all()
    moved = {
        weight.path
        for weight, was in zip(model.weights, before, strict=True)
        if not np.array_equal(keras.ops.convert_to_numpy(weight), was)
    }
    trained = {weight.path for weight in model.trainable_weights}
    assert set(kernels) <= moved
    if recipe.init.train == "head":
        assert moved == trained == {"head/kernel", "head/bias"}


def test_only_imagenets_protocol_leaves_images_as_they_are_stored(load):
    turning = {name.split("/")[0] for name in NAMES if load(name).data.apply_orientation}
    assert turning == {"quickstart", "transfer"}
