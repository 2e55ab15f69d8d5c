"""The section `augment`: the augmentation of training images."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from keras_convnext.recipe.scalars import reads_as_true
from keras_convnext.recipe.sections.base import Fraction, Positive, Section

Range = tuple[Positive, Positive]
NO_AUGMENTATION = {
    "rand_augment": None,
    "trivial_augment": False,
    "random_erasing": 0.0,
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
}
KERAS_CV_RAND_AUGMENT = {"magnitude": 0.5, "magnitude_std": 0.15, "probability": 10 / 11}


class RandomResizedCrop(Section):
    """A crop of random area and aspect ratio, resized to the network's input size."""

    area: Range = Field(
        (0.08, 1.0), description="Minimum and maximum area, as fractions of the image's area."
    )
    ratio: Range = Field((3 / 4, 4 / 3), description="Minimum and maximum width / height.")

    @field_validator("area", "ratio")
    @classmethod
    def _check_ascending(cls, limits):
        if limits[0] > limits[1]:
            raise ValueError("the first number must not exceed the second")
        return limits

    @field_validator("area")
    @classmethod
    def _check_fraction(cls, area):
        if area[1] > 1:
            raise ValueError("a fraction of the image's area cannot exceed 1")
        return area


class RandAugment(Section):
    """Random operations on each image. The defaults are the paper's.

    Magnitudes range from 0 to 1. timm's range to 10: `rand-m9-mstd0.5` is a magnitude of 0.9 and a
    standard deviation of 0.05.
    """

    operations: int = Field(2, ge=1, description="Number of operations drawn for each image.")
    magnitude: Fraction = Field(0.9, description="Mean magnitude of an operation.")
    magnitude_std: Fraction = Field(0.05, description="Standard deviation of the magnitude.")
    probability: Fraction = Field(0.5, description="Probability that a drawn operation is applied.")
    kinds: Literal["all", "colour", "geometric"] = Field(
        "all", description="Which operations are drawn from."
    )


class Augment(Section):
    """The augmentation of training images, in the order of the keys.

    The policy `paper` is the augmentation of the paper's code, computed in parallel.

    The policy `keras_cv` uses KerasCV's RandAugment, Mixup and CutMix, with KerasCV's defaults for
    RandAugment. It costs throughput, since its layers run one image at a time: `paper` is 1.4 times
    as fast on 2 CPU cores. A resumed run recomputes the batches before its start. KerasCV has no
    random erasing.

    The policy `none` only crops and mirrors.
    """

    policy: Literal["paper", "keras_cv", "none"] = Field(
        "paper", description="Whose RandAugment, Mixup and CutMix are used."
    )
    repeated_augmentation: int = Field(
        1,
        ge=1,
        description="Number of times that each image is repeated in a row, with other augmentation "
        "each time; an epoch keeps its length and sees as many times fewer images.",
    )
    random_resized_crop: RandomResizedCrop | None = Field(
        RandomResizedCrop(), description="Random crop; null resizes as in evaluation."
    )
    random_crop_padding: int = Field(
        0,
        ge=0,
        description="Width of the black border added before a random crop of the input size, in "
        "pixels: 4 for images of 32 pixels. Only with random_resized_crop: null.",
    )
    horizontal_flip: Fraction = Field(0.5, description="Probability of mirroring an image.")
    rand_augment: RandAugment | None = Field(
        RandAugment(), description="RandAugment; null for none."
    )
    trivial_augment: bool = Field(
        False, description="Whether TrivialAugmentWide replaces RandAugment."
    )
    random_erasing: Fraction = Field(
        0.25, description="Probability that a rectangle is replaced by noise; 0 for none."
    )
    mixup_alpha: float = Field(
        0.8, ge=0, description="Mixup draws its lambda from Beta(alpha, alpha); 0 for no Mixup."
    )
    cutmix_alpha: float = Field(
        1.0, ge=0, description="CutMix draws its lambda from Beta(alpha, alpha); 0 for no CutMix."
    )
    mix_probability: Fraction = Field(
        1.0, description="Probability that a batch is mixed by Mixup or CutMix."
    )
    switch_probability: Fraction = Field(
        0.5, description="Probability of CutMix rather than Mixup, if both are on."
    )
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="Fraction of the target that is spread over all classes."
    )

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
    def _check_keys_of_the_policy(self):
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
    def _check_exclusive_keys(self):
        if self.trivial_augment and self.rand_augment is not None:
            raise ValueError("give either `trivial_augment` or `rand_augment`; set one to null")
        if self.random_crop_padding and self.random_resized_crop is not None:
            raise ValueError(
                "`random_crop_padding` needs `random_resized_crop: null`; set one of the two"
            )
        return self

    @property
    def smoothing_in_targets(self) -> float:
        """Label smoothing that the pipeline applies to the targets: all of it, or none."""
        return 0.0 if self.policy == "keras_cv" else self.label_smoothing

    @property
    def smoothing_in_loss(self) -> float:
        """Label smoothing that the loss applies."""
        return self.label_smoothing - self.smoothing_in_targets
