"""The base of layers made of other layers."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_convnext.layers.input_specs import image_spec
from keras_convnext.layers.part_settings import PartSettings
from keras_convnext.layers.part_watch import PartWatch
from keras_convnext.layers.rematerialization import Rematerializable
from keras_convnext.layers.weight_regularizer import regularize


class Composite(Rematerializable):
    """A layer made of parts: Keras layers whose `call` it uses directly, without `__call__`.

    Settings of a part are not lost. `get_config` saves them, and the layer uses a part's `__call__`
    if the part has a setting that only `__call__` handles, such as a hook.

    Args:
        kernel_regularizer: Regularizer of the kernels of all parts. Defaults to `None`.
        parts: Further constructor arguments of the parts, by the name of the part. Defaults to
            `None`.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        kernel_regularizer: str | dict | keras.regularizers.Regularizer | None = None,
        parts: Mapping[str, Mapping[str, Any]] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.input_spec = image_spec()
        self._kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self._part_settings = PartSettings(parts or {})

    @property
    def kernel_regularizer(self) -> keras.regularizers.Regularizer | None:
        """Regularizer of the kernels of all parts.

        A regularizer set here is part of the losses from then on. A compiled train function keeps
        the old one until `model.compile` is called again.
        """
        return self._kernel_regularizer

    @kernel_regularizer.setter
    def kernel_regularizer(self, value: Any) -> None:
        self._kernel_regularizer = keras.regularizers.get(value)
        for part in self._parts():
            if hasattr(part, "kernel_regularizer"):
                part.kernel_regularizer = self._kernel_regularizer
                regularize(part, "kernel", self._kernel_regularizer)
                self._part_settings.set_default(part, "kernel_regularizer")

    def _part(self, kind: type[keras.layers.Layer], name: str, *args, **kwargs):
        return self._part_settings.make(kind, name, *args, **kwargs)

    def _parts(self) -> list[keras.layers.Layer]:
        return [getattr(self, name) for name in self._part_settings.names()]

    def _watch_parts(self) -> None:
        """Watches for settings that only `__call__` handles; called at the end of `build`."""
        self._part_watch = PartWatch(self._parts())

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_regularizer": keras.regularizers.serialize(self._kernel_regularizer),
            "parts": self._part_settings.changed(self._parts(), self.trainable),
        }
