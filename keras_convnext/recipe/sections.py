"""The sections of a recipe, typed and checked: what each key means, its default and its limits."""

from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from keras_convnext.catalog.architectures import VARIANTS, get_variant
from keras_convnext.recipe.scalars import kinds_of, reads_as_true, typed

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # NumPy takes no greater one
Range = tuple[Positive, Positive]
Stages = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


class Section(BaseModel):
    """What every part of a recipe has in common: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _read_by_the_kind_of_field(cls, value, info):
        return typed(value, kinds_of(cls.model_fields[info.field_name].annotation))


class Runtime(Section):
    """Where and how exactly the run computes."""

    backend: Literal["tensorflow", "jax", "torch"] | None = Field(
        None, description="Keras backend; null takes KERAS_BACKEND or Keras's own setting."
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "float32", description="Dtype policy of the network."
    )
    seed: Seed = Field(0, description="Seed of the weights, the order and the augmentation.")
    deterministic: bool = Field(
        False, description="Only kernels that give the same bits every time; slower on GPUs."
    )


RESNET = "resnet50"


class Model(Section):
    """The network: a named one of the paper, or any other size by depths and dims.

    A named one brings its own `patch_size`, `stem_norm` and `layer_scale_init_value`, which may
    still be given. `resnet50`, which the paper compares with, is that of `keras.applications` and
    takes none of the other keys.
    """

    name: str | None = Field(None, description="Name of a model of the paper, or resnet50.")
    depths: Stages | None = Field(
        None, description="Blocks in each stage, for a network of another size."
    )
    dims: Stages | None = Field(
        None, description="Channels of each stage, for a network of another size."
    )
    patch_size: int = Field(4, ge=1, description="Side of the stem's patches, in pixels.")
    stem_norm: bool = Field(True, description="Whether a LayerNorm follows the stem's convolution.")
    kernel_size: int = Field(7, ge=1, description="Odd side of the depthwise kernels, in pixels.")
    drop_path_rate: float = Field(
        0.0, ge=0, lt=1, description="Stochastic depth of the last block."
    )
    layer_scale_init_value: Positive | None = Field(
        1e-6, description="Initial value of layer scale; null for none."
    )
    head_init_scale: Positive = Field(1.0, description="Factor on the head's initial weights.")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_from_the_name(cls, settings):
        variant = VARIANTS.get(str(settings.get("name"))) if isinstance(settings, dict) else None
        if variant is None:
            return settings
        own = ("patch_size", "stem_norm", "layer_scale_init_value")
        return {**{key: getattr(variant, key) for key in own}, **settings}

    @field_validator("name")
    @classmethod
    def _known_model(cls, name):
        if name not in (None, RESNET):
            get_variant(name)
        return name

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, size):
        if size % 2 == 0:
            raise ValueError("the kernel must be odd, so that it is centred on a pixel")
        return size

    @model_validator(mode="after")
    def _one_architecture(self):
        sizes = (self.depths, self.dims)
        if (self.name is None) == (sizes == (None, None)):
            raise ValueError("give either `name`, or `depths` and `dims`")
        if self.name is None and len(self.depths or ()) != len(self.dims or ()):
            raise ValueError("`depths` and `dims` must both be given and be equally long")
        return self

    @model_validator(mode="after")
    def _resnet_as_it_is(self):
        others = self.model_dump(exclude={"name"})
        defaults = {key: field.default for key, field in type(self).model_fields.items()}
        changed = [key for key, value in others.items() if value != defaults[key]]
        if self.name == RESNET and changed:
            raise ValueError(f"{RESNET} does not take `{'`, `'.join(changed)}`")
        return self

    def least_image_size(self) -> int:
        """Returns the side of the smallest image that the network can see, in pixels."""
        if self.name == RESNET:
            return 32
        return self.patch_size * 2 ** (len(self.architecture()[0]) - 1)

    def architecture(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the blocks and the channels of each stage of a ConvNeXt."""
        if self.name is not None:
            return get_variant(self.name).depths, get_variant(self.name).dims
        return self.depths or (), self.dims or ()


class Init(Section):
    """Where training starts from, for fine-tuning."""

    weights: str | None = Field(
        None,
        description="Name of a published checkpoint, a file such as runs/NAME/last.keras, or an "
        "address; null for random weights. A classifier of other classes starts anew.",
    )
    train: Literal["all", "head"] = Field(
        "all", description="What learns: every weight, or the classifier alone."
    )


class Data(Section):
    """Which images, and how they reach the network's size."""

    source: Literal["digits", "folder", "tfds"] = Field(
        description="digits: scikit-learn's handwritten digits; folder: PATH/train and PATH/val; "
        "tfds: a data set of TensorFlow Datasets that was prepared before."
    )
    path: str | None = Field(
        None, description="The folder; of tfds, where its data sets lie, by default its own place."
    )
    dataset: str | None = Field(None, description="Name of the data set, of tfds only.")
    training_split: str = Field(
        "train", description="Name of the training images: a folder in PATH, or tfds's split."
    )
    validation_split: str | None = Field(
        "val",
        description="Name of the validation images, by default validation with tfds; null for "
        "none, as for ImageNet-22K.",
    )
    image_size: int = Field(224, ge=1, description="Height and width the network sees, in pixels.")
    crop_fraction: float = Field(
        0.875,
        gt=0,
        le=1,
        description="Evaluation: the centre crop's share of the resized image, below 384 pixels.",
    )
    batch_size: int = Field(64, ge=1, description="Images in an update.")
    check_images: bool = Field(
        True, description="Of a folder: whether every file is decoded once when it is first used."
    )
    on_bad_image: Literal["error", "skip"] = Field(
        "error", description="What a file that is no image does: stop the run, or be left out."
    )
    apply_orientation: bool = Field(
        True,
        description="Whether images are turned as their EXIF says; false in ImageNet's protocol.",
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="Share held out, where the source has no split of its own."
    )
    split_seed: Seed = Field(0, description="Seed of that split.")
    class_weights: Literal["balanced"] | None = Field(
        None,
        description="balanced: in the training loss an image counts by images / (classes x images "
        "of its class), a mixed one by its shares; null: all count alike.",
    )

    @model_validator(mode="before")
    @classmethod
    def _name_the_validation_split(cls, settings):
        if isinstance(settings, dict) and settings.get("source") == "tfds":
            return {"validation_split": "validation", **settings}
        return settings

    @model_validator(mode="after")
    def _what_the_source_takes(self):
        if self.source == "folder" and self.path is None:
            raise ValueError("the source 'folder' needs `path`; pass data.path=DIR")
        if self.source == "tfds" and self.dataset is None:
            raise ValueError(
                "the source 'tfds' needs `dataset`; pass data.dataset=NAME, such as imagenet2012"
            )
        if self.source == "digits" and self.path is not None:
            raise ValueError("the source 'digits' takes no `path`")
        if self.source != "tfds" and self.dataset is not None:
            raise ValueError(f"the source {self.source!r} takes no `dataset`")
        return self


class RandomResizedCrop(Section):
    """A crop of random area and aspect ratio, resized to the network's size."""

    area: Range = Field((0.08, 1.0), description="Least and greatest share of the image's area.")
    ratio: Range = Field((3 / 4, 4 / 3), description="Least and greatest width by height.")

    @field_validator("area", "ratio")
    @classmethod
    def _ascending(cls, limits):
        if limits[0] > limits[1]:
            raise ValueError("the first number must not exceed the second")
        return limits

    @field_validator("area")
    @classmethod
    def _share(cls, area):
        if area[1] > 1:
            raise ValueError("a share of the image's area cannot exceed 1")
        return area


class RandAugment(Section):
    """Operations drawn at random for each image. The defaults are the paper's.

    Strengths go from 0 to 1; timm's, such as those of `rand-m9-mstd0.5`, go to 10.
    """

    operations: int = Field(2, ge=1, description="Operations drawn for each image.")
    magnitude: Fraction = Field(0.9, description="Mean strength of an operation.")
    magnitude_deviation: Fraction = Field(0.05, description="Deviation of the strength.")
    rate: Fraction = Field(0.5, description="Probability that a drawn operation is applied.")
    kinds: Literal["all", "colour", "geometric"] = Field(
        "all", description="Which operations are drawn from."
    )


NO_AUGMENTATION = {
    "rand_augment": None,
    "trivial_augment": False,
    "random_erasing": 0.0,
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
}
KERAS_CV_RAND_AUGMENT = {"magnitude": 0.5, "magnitude_deviation": 0.15, "rate": 10 / 11}


class Augment(Section):
    """What happens to training images only, in this order.

    The policy `paper` does what the paper's code does, in parallel. The policy `keras_cv` takes
    KerasCV's RandAugment, Mixup and CutMix, with KerasCV's defaults for the former, and erases
    nothing. The policy `none` crops and mirrors only.
    """

    policy: Literal["paper", "keras_cv", "none"] = Field(
        "paper", description="Whose RandAugment, Mixup and CutMix."
    )
    repeats: int = Field(
        1, ge=1, description="Times an image comes in a row, each time augmented anew."
    )
    random_resized_crop: RandomResizedCrop | None = Field(
        RandomResizedCrop(), description="null resizes as in evaluation."
    )
    random_crop_padding: int = Field(
        0,
        ge=0,
        description="Black pixels put around an image before it is cropped at random, where "
        "random_resized_crop is null: 4 for images of 32 pixels.",
    )
    horizontal_flip: Fraction = Field(0.5, description="Probability of mirroring an image.")
    rand_augment: RandAugment | None = Field(RandAugment(), description="null for none.")
    trivial_augment: bool = Field(
        False, description="TrivialAugmentWide, in the place of rand_augment."
    )
    random_erasing: Fraction = Field(
        0.25, description="Probability that a part of an image becomes noise; 0 for none."
    )
    mixup_alpha: float = Field(0.8, ge=0, description="Beta distribution of Mixup; 0 for none.")
    cutmix_alpha: float = Field(1.0, ge=0, description="Beta distribution of CutMix; 0 for none.")
    mix_probability: Fraction = Field(1.0, description="Probability that a batch is mixed.")
    cutmix_share: Fraction = Field(0.5, description="Share of CutMix where both are on.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share spread over all classes.")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_from_the_policy(cls, settings):
        policy = settings.get("policy") if isinstance(settings, dict) else None
        if policy == "keras_cv":
            settings = {"rand_augment": {}, "random_erasing": 0.0, **settings}
            if isinstance(settings["rand_augment"], dict):
                settings["rand_augment"] = {**KERAS_CV_RAND_AUGMENT, **settings["rand_augment"]}
        elif policy == "none":
            settings = {**NO_AUGMENTATION, **settings}
        elif isinstance(settings, dict) and reads_as_true(settings.get("trivial_augment")):
            settings = {"rand_augment": None, **settings}
        return settings

    @model_validator(mode="after")
    def _what_the_policy_has(self):
        if self.policy == "keras_cv" and (self.random_erasing or self.trivial_augment):
            raise ValueError(
                "the policy 'keras_cv' takes neither `random_erasing` nor `trivial_augment`; set "
                "them to 0 and false"
            )
        added = [key for key, value in NO_AUGMENTATION.items() if getattr(self, key) != value]
        if self.policy == "none" and added:
            raise ValueError(f"the policy 'none' takes no `{'`, `'.join(added)}`; leave it out")
        return self

    @model_validator(mode="after")
    def _one_of_a_kind(self):
        if self.trivial_augment and self.rand_augment is not None:
            raise ValueError("give either `trivial_augment` or `rand_augment`; set one to null")
        if self.random_crop_padding and self.random_resized_crop is not None:
            raise ValueError(
                "`random_crop_padding` goes with `random_resized_crop: null`; set one of them so"
            )
        return self

    @property
    def smoothing_in_targets(self) -> float:
        """Label smoothing that the data's targets come with: all of it, or none."""
        return 0.0 if self.policy == "keras_cv" else self.label_smoothing

    @property
    def smoothing_in_loss(self) -> float:
        """Label smoothing that is left to the loss."""
        return self.label_smoothing - self.smoothing_in_targets


class Optimizer(Section):
    """What moves the weights, and which of them decay."""

    kind: Literal["adamw", "lamb", "sgd"] = Field("adamw", description="The rule of an update.")
    weight_decay: float = Field(
        0.05, ge=0, description="Weight decay: decoupled with adamw, a part of the gradient else."
    )
    decay_vectors: bool = Field(
        False, description="Whether biases, norms and layer scale decay like the kernels."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Of sgd.")
    beta_1: float = Field(0.9, ge=0, lt=1, description="Decay of the gradient's average.")
    beta_2: float = Field(0.999, ge=0, lt=1, description="Decay of its square's average.")
    epsilon: Positive = Field(
        1e-8, description="Added to the root in the denominator; by default 1e-6 with lamb."
    )
    clip_norm: Positive | None = Field(None, description="Greatest norm of all gradients together.")
    accumulation: int = Field(
        1, ge=1, description="Steps an update is computed in, each with its share of the batch."
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Factor on the rate from group to group of layers; null for one rate."
    )
    layer_decay_rule: Literal["group", "block", "stage"] = Field(
        "group", description="What forms a group: three blocks, one block, or a whole stage."
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Decay of the weights' moving average, 0.9999 in the paper; null for none.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_from_the_kind(cls, settings):
        if isinstance(settings, dict) and settings.get("kind") == "lamb":
            return {"epsilon": 1e-6, **settings}
        return settings


class EarlyStopping(Section):
    """When a run ends before its last epoch: when a metric has not got better for a while.

    A number alone is the patience.
    """

    patience: int = Field(
        ge=1, description="Epochs in a row without a better value, after which the run ends."
    )
    monitor: Literal[
        "val_accuracy", "val_loss", "val_ema_accuracy", "val_ema_loss", "accuracy", "loss"
    ] = Field("val_accuracy", description="The metric; val_ema_ with optimizer.ema_decay only.")
    min_delta: float = Field(0.0, ge=0, description="What a value must be better by to count.")

    @model_validator(mode="before")
    @classmethod
    def _patience_alone(cls, settings):
        return {"patience": settings} if isinstance(settings, int | str) else settings


class Schedule(Section):
    """The learning rate, per update: linear warm-up from 0, then a cosine or steps."""

    kind: Literal["cosine", "step"] = Field("cosine", description="What follows the warm-up.")
    epochs: int = Field(300, ge=1, description="Passes over the training images.")
    learning_rate: Positive = Field(4e-3, description="Peak, not rescaled by the batch size.")
    final_learning_rate: float = Field(1e-6, ge=0, description="Where the cosine ends.")
    warmup_epochs: float = Field(20, ge=0, description="Length of the warm-up.")
    step_epochs: int = Field(30, ge=1, description="Epochs from one step to the next.")
    step_factor: Fraction = Field(0.1, description="Factor on the rate at every step.")
    early_stopping: EarlyStopping | None = Field(
        None, description="When the run ends before its last epoch; null for never."
    )

    @model_validator(mode="after")
    def _warmup_ends(self):
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"`warmup_epochs` ({self.warmup_epochs:g}) must be fewer than `epochs` "
                f"({self.epochs}), or the learning rate never gets beyond its warm-up"
            )
        return self


class Checkpoint(Section):
    """What a run keeps of itself while it trains, to go on from after it was stopped."""

    keep: int = Field(3, ge=1, description="Newest checkpoints that stay, one an epoch.")


class Export(Section):
    """What is written for serving when training has ended."""

    saved_model: bool = Field(True, description="Whether a SavedModel is written.")


class Recipe(Section):
    """A whole training run. See `load_recipe`."""

    name: str = Field(
        pattern=r"^\w[\w.-]*$", description="Name of the run's directory: letters, digits, _, ., -."
    )
    runtime: Runtime = Runtime()
    model: Model
    init: Init = Init()
    data: Data
    augment: Augment = Augment()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule
    checkpoint: Checkpoint = Checkpoint()
    export: Export = Export()

    @model_validator(mode="after")
    def _image_fits_network(self):
        least = self.model.least_image_size()
        if self.data.image_size < least:
            raise ValueError(
                f"data.image_size is {self.data.image_size}, but this network halves its images "
                f"down to one {least}th and needs at least {least} pixels"
            )
        return self

    @model_validator(mode="after")
    def _steps_of_an_update_are_equal(self):
        if self.data.batch_size % self.optimizer.accumulation:
            raise ValueError(
                f"data.batch_size ({self.data.batch_size}) must be a multiple of "
                f"optimizer.accumulation ({self.optimizer.accumulation}), so that all steps of an "
                f"update have the same number of images"
            )
        return self

    @model_validator(mode="after")
    def _what_a_convnext_alone_can(self):
        if self.model.name != RESNET:
            return self
        if self.init != Init() or self.optimizer.layer_decay is not None:
            raise ValueError(f"{RESNET} takes neither `init` nor `optimizer.layer_decay`")
        return self

    @model_validator(mode="after")
    def _early_stopping_has_its_metric(self):
        stopping = self.schedule.early_stopping
        if stopping is None:
            return self
        if stopping.monitor.startswith("val_") and self.data.validation_split is None:
            raise ValueError(
                f"schedule.early_stopping watches {stopping.monitor}, but data.validation_split is "
                f"null; take accuracy or loss as its monitor"
            )
        if stopping.monitor.startswith("val_ema_") and self.optimizer.ema_decay is None:
            raise ValueError(
                f"schedule.early_stopping watches {stopping.monitor}, but optimizer.ema_decay is "
                f"null, so there is no average"
            )
        return self

    @property
    def step_batch_size(self) -> int:
        """Images in a step: those of an update, or their share where it takes several."""
        return self.data.batch_size // self.optimizer.accumulation

    def to_yaml(self) -> str:
        """Returns the recipe with every default written out, as `load_recipe` reads it."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
