"""Learning rates over a run, each usable with any Keras optimizer."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_convnext")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises linearly from 0, then falls along half a cosine, per update.

    The official code's schedule to the update: the warm-up's first update has the rate 0 exactly,
    its last one the peak, and the cosine's first one the peak again. Source: the official
    `utils.cosine_scheduler`; lengths and rates in "A ConvNet for the 2020s", tables 5 and 6.

    Args:
        peak: Greatest learning rate.
        total_steps: Updates of the whole run.
        warmup_steps: Updates of the warm-up, fewer than `total_steps`. Defaults to 0.
        final: The rate the cosine runs down to. Defaults to 1e-6.

    Raises:
        ValueError: If the warm-up is not shorter than the run.

    Example:
        >>> schedule = keras_convnext.schedules.WarmupCosine(4e-3, 93_600, warmup_steps=6_240)
        >>> model.compile(keras.optimizers.AdamW(schedule), loss="categorical_crossentropy")
    """

    def __init__(
        self, peak: float, total_steps: int, warmup_steps: int = 0, final: float = 1e-6
    ) -> None:
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                f"`warmup_steps` must be at least 0 and less than `total_steps`. "
                f"Received: warmup_steps={warmup_steps}, total_steps={total_steps}."
            )
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.final = final

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rising = self.peak * step / max(self.warmup_steps - 1, 1)
        progress = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        # A run that goes on past its end stays at the final rate instead of rising again.
        cosine = ops.cos(math.pi * ops.minimum(progress, 1.0))
        falling = self.final + 0.5 * (self.peak - self.final) * (1.0 + cosine)
        return ops.where(step < self.warmup_steps, rising, falling)

    def get_config(self):
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "final": self.final,
        }
