"""The recipe: everything that decides a training run, as one typed and checked YAML file.

Importing this module imports no backend, so a bad recipe is refused at once, and a recipe can name
the backend before Keras is imported.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from keras_convnext.errors import RecipeError
from keras_convnext.variants import VARIANTS, get_variant

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # NumPy takes no greater one
Range = tuple[Positive, Positive]
Stages = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


class Section(BaseModel):
    """What every part of a recipe has in common: unknown keys are errors, values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_yes_or_no(cls, value, info):
        # YAML reads on, off, yes and no as booleans, and pydantic takes those for 1 and 0.
        values = value if isinstance(value, list) else [value]
        is_bool = cls.model_fields[info.field_name].annotation is bool
        if not is_bool and any(isinstance(one, bool) for one in values):
            raise ValueError("expected a value, not a yes or no")
        return value


class Runtime(Section):
    """Where and how exactly the run computes."""

    backend: Literal["tensorflow", "jax", "torch"] | None = Field(
        None, description="Keras backend; null takes KERAS_BACKEND or Keras's own setting."
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "float32", description="Dtype policy of the network."
    )
    seed: Seed = Field(0, description="Seed of the weights, the order and the augmentation.")


class Model(Section):
    """The network: a named one of the paper, or any other size by depths and dims.

    A named one brings its own `patch_size`, `stem_norm` and `layer_scale_init_value`, which may
    still be given.
    """

    name: str | None = Field(None, description="Name of a model of the paper.")
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
        if name is not None:
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

    def architecture(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the blocks and the channels of each stage."""
        if self.name is not None:
            return get_variant(self.name).depths, get_variant(self.name).dims
        return self.depths or (), self.dims or ()


class Data(Section):
    """Which images, and how they reach the network's size."""

    source: Literal["digits", "folder"] = Field(
        description="digits: scikit-learn's handwritten digits; folder: PATH/train and PATH/val."
    )
    path: str | None = Field(None, description="The folder, where the source is one.")
    image_size: int = Field(224, ge=1, description="Height and width the network sees, in pixels.")
    crop_fraction: float = Field(
        0.875,
        gt=0,
        le=1,
        description="Evaluation: the centre crop's share of the resized image, below 384 pixels.",
    )
    batch_size: int = Field(64, ge=1, description="Images in a training step.")
    on_bad_image: Literal["error", "skip"] = Field(
        "error", description="What a file that is no image does: stop the run, or be left out."
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="Share held out, where the source has no split of its own."
    )
    split_seed: Seed = Field(0, description="Seed of that split.")

    @model_validator(mode="after")
    def _path_where_needed(self):
        if self.source == "folder" and self.path is None:
            raise ValueError("the source 'folder' needs `path`; pass data.path=DIR")
        if self.source != "folder" and self.path is not None:
            raise ValueError(f"the source {self.source!r} takes no `path`")
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


KERAS_CV_RAND_AUGMENT = {"magnitude": 0.5, "magnitude_deviation": 0.15, "rate": 10 / 11}


class Augment(Section):
    """What happens to training images only, in this order.

    The policy `paper` does what the paper's code does, in parallel. The policy `keras_cv` takes
    KerasCV's RandAugment, Mixup and CutMix, with KerasCV's defaults for the former, and erases
    nothing.
    """

    policy: Literal["paper", "keras_cv"] = Field(
        "paper", description="Whose RandAugment, Mixup and CutMix."
    )
    random_resized_crop: RandomResizedCrop | None = Field(
        RandomResizedCrop(), description="null resizes as in evaluation."
    )
    horizontal_flip: Fraction = Field(0.5, description="Probability of mirroring an image.")
    rand_augment: RandAugment | None = Field(RandAugment(), description="null for none.")
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
        if not isinstance(settings, dict) or settings.get("policy") != "keras_cv":
            return settings
        settings = {"rand_augment": {}, "random_erasing": 0.0, **settings}
        if isinstance(settings["rand_augment"], dict):
            settings["rand_augment"] = {**KERAS_CV_RAND_AUGMENT, **settings["rand_augment"]}
        return settings

    @model_validator(mode="after")
    def _erasing_where_it_exists(self):
        if self.policy == "keras_cv" and self.random_erasing:
            raise ValueError("the policy 'keras_cv' takes no `random_erasing`; set it to 0")
        return self

    @property
    def smoothing_in_targets(self) -> float:
        """Label smoothing that the data's targets come with: all of it, or none."""
        return self.label_smoothing if self.policy == "paper" else 0.0

    @property
    def smoothing_in_loss(self) -> float:
        """Label smoothing that is left to the loss."""
        return self.label_smoothing - self.smoothing_in_targets


class Optimizer(Section):
    """AdamW; weight decay leaves out biases, LayerNorm and layer scale."""

    weight_decay: float = Field(0.05, ge=0, description="Decoupled weight decay.")
    beta_1: float = Field(0.9, ge=0, lt=1, description="Decay of the gradient's average.")
    beta_2: float = Field(0.999, ge=0, lt=1, description="Decay of its square's average.")
    epsilon: Positive = Field(1e-8, description="Added to the root in the denominator.")
    clip_norm: Positive | None = Field(None, description="Greatest norm of all gradients together.")
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


class Schedule(Section):
    """Linear warm-up from 0, then a cosine, per update."""

    epochs: int = Field(300, ge=1, description="Passes over the training images.")
    learning_rate: Positive = Field(4e-3, description="Peak, not rescaled by the batch size.")
    final_learning_rate: float = Field(1e-6, ge=0, description="Where the cosine ends.")
    warmup_epochs: float = Field(20, ge=0, description="Length of the warm-up.")

    @model_validator(mode="after")
    def _warmup_ends(self):
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"`warmup_epochs` ({self.warmup_epochs:g}) must be fewer than `epochs` "
                f"({self.epochs}), or the learning rate never reaches its cosine"
            )
        return self


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
    data: Data
    augment: Augment = Augment()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule
    export: Export = Export()

    @model_validator(mode="after")
    def _image_fits_network(self):
        stages = len(self.model.architecture()[0])
        least = self.model.patch_size * 2 ** (stages - 1)
        if self.data.image_size < least:
            raise ValueError(
                f"data.image_size is {self.data.image_size}, but this network halves its images "
                f"down to one {least}th and needs at least {least} pixels"
            )
        return self

    def to_yaml(self) -> str:
        """Returns the recipe with every default written out, as `load_recipe` reads it."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_recipe(path: str | Path, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """Reads and checks a recipe.

    Args:
        path: The YAML file.
        overrides: Settings that replace the file's, such as `"schedule.epochs=10"`.

    Raises:
        RecipeError: If the file is missing or no YAML, or with every error in it: unknown keys
            (with the nearest one that exists), wrong types, values out of range.

    Example:
        >>> recipe = load_recipe("recipes/quickstart/digits.yaml", ["runtime.seed=1"])
    """
    settings = _read_yaml(Path(path))
    for override in overrides:
        _apply_override(settings, override)
    return _checked(settings, str(path))


def _checked(settings: dict[str, Any], source: str) -> Recipe:
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        lines = [_sentence(detail) for detail in error.errors()]
        count = "1 error" if len(lines) == 1 else f"{len(lines)} errors"
        raise RecipeError("\n".join([f"{source}: {count}", *lines])) from None


def _sentence(detail) -> str:
    """Words one of pydantic's errors, and names the nearest key where one is unknown."""
    keys = [key for key in detail["loc"] if isinstance(key, str)]
    where = ".".join(str(key) for key in detail["loc"]) or "recipe"
    if detail["type"] == "extra_forbidden":
        known = list(_section(keys[:-1]).model_fields)
        nearest = difflib.get_close_matches(keys[-1], known, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        return f"  {where}: unknown key.{hint} The keys here are: {', '.join(known)}."
    if detail["type"] == "missing":
        return f"  {where}: this key is required."
    if detail["type"] == "model_type":
        return f"  {where}: expected keys indented below it. Received: {detail['input']!r}."
    message = detail["msg"].removeprefix("Value error, ").rstrip(".")
    received = detail["input"]
    if isinstance(received, dict | BaseModel):
        return f"  {where}: {message}."
    return f"  {where}: {message}. Received: {received!r}."


def _section(keys: list[str]) -> type[BaseModel]:
    """Returns the section of the schema that `keys` lead to."""
    section: type[BaseModel] = Recipe
    for key in keys:
        annotation = section.model_fields[key].annotation
        kinds = [annotation, *getattr(annotation, "__args__", ())]
        section = next(k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel))
    return section


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, of which PyYAML silently keeps the last."""

    def construct_mapping(self, node, deep=False):
        merge = "tag:yaml.org,2002:merge"
        keys = [self.construct_object(key) for key, _ in node.value if key.tag != merge]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"There is no recipe {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"The recipe {path} cannot be read: {error}.") from None
    try:
        settings = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is no valid YAML: {error}.") from None
    if not isinstance(settings, dict):
        raise RecipeError(
            f"{path} must hold sections such as `model:` and `data:`, with their keys indented "
            f"below. Received: {type(settings).__name__}."
        )
    return settings


def _apply_override(settings: dict[str, Any], override: str) -> None:
    """Puts one `section.key=value` into `settings`; whether the key exists is checked later."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise RecipeError(
            f"A setting is changed by section.key=value, such as schedule.epochs=10. "
            f"Received: {override!r}."
        )
    try:
        value = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError:
        raise RecipeError(f"The value of {path} is no valid YAML. Received: {text!r}.") from None
    *sections, key = path.split(".")
    for section in sections:
        inner = settings.setdefault(section, {})
        if inner is None:
            inner = settings[section] = {}
        if not isinstance(inner, dict):
            raise RecipeError(f"{override!r} names keys below {section!r}, which holds {inner!r}.")
        settings = inner
    settings[key] = value
