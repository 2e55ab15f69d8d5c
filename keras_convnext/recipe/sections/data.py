"""The section `data`: the images, and how they are resized and batched."""

from typing import Literal

from pydantic import Field, model_validator

from keras_convnext.recipe.sections.base import Section, Seed


class Data(Section):
    """The images, their size and the batch size."""

    source: Literal["digits", "folder", "tfds"] = Field(
        description="digits: scikit-learn's handwritten digits; folder: images in PATH/train and "
        "PATH/val, one folder per class; tfds: a data set that TensorFlow Datasets has prepared."
    )
    path: str | None = Field(
        None,
        description="With folder, the folder of images. With tfds, the directory of the prepared "
        "data sets; null takes TensorFlow Datasets's own.",
    )
    dataset: str | None = Field(
        None, description="With tfds, the name of the data set, such as imagenet2012."
    )
    training_split: str = Field(
        "train",
        description="Name of the training images: a folder in PATH, or a split of the data set.",
    )
    validation_split: str | None = Field(
        "val",
        description="Name of the validation images, with tfds by default validation; null for "
        "none, as for ImageNet-22K.",
    )
    image_size: int = Field(
        224, ge=1, description="Height and width of the network's input, in pixels."
    )
    crop_fraction: float = Field(
        0.875,
        gt=0,
        le=1,
        description="Side of the centre crop as a fraction of the resized image's shorter side, "
        "in evaluation below 384 pixels.",
    )
    batch_size: int = Field(64, ge=1, description="Number of images per optimizer update.")
    check_images: bool = Field(
        True,
        description="With folder, whether every file is decoded once, when the folder is first "
        "used, to find files that are not images.",
    )
    on_bad_image: Literal["error", "skip"] = Field(
        "error", description="Whether a file that is not an image stops the run or is skipped."
    )
    apply_orientation: bool = Field(
        True,
        description="Whether images are rotated as their EXIF orientation says; false in "
        "ImageNet's protocol.",
    )
    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Fraction of the images held out for validation, with digits, which has no "
        "split of its own.",
    )
    split_seed: Seed = Field(0, description="Seed of the split by test_fraction.")
    class_weights: Literal["balanced"] | None = Field(
        None,
        description="balanced multiplies an image's training loss by images / (classes x images "
        "of its class); a mixed image gets the mean over its classes, weighted by their shares. "
        "null weights all images equally.",
    )

    @model_validator(mode="before")
    @classmethod
    def _name_the_validation_split(cls, settings):
        if isinstance(settings, dict) and settings.get("source") == "tfds":
            return {"validation_split": "validation", **settings}
        return settings

    @model_validator(mode="after")
    def _check_keys_of_the_source(self):
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
