"""Learning-rate schedules, usable with any Keras optimizer."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_convnext")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly from 0, then falls along half a cosine.

    It equals the official code's schedule at each update: the first update of the warm-up has the
    rate 0, its last one the peak, and the first one of the cosine the peak again. Source: official
    `utils.cosine_scheduler`; lengths and rates in "A ConvNet for the 2020s", tables 5 and 6.

    Args:
        peak: Highest learning rate.
        total_steps: Number of updates of the run.
        warmup_steps: Number of updates of the warm-up, less than `total_steps`. Defaults to 0.
        final: Learning rate at the end of the cosine. Defaults to 1e-6.

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
        # Beyond the last step the rate stays at `final`; the cosine alone would rise again.
        remaining = ops.maximum(self.total_steps - ops.cast(step, "float32"), 0.0)
        fraction = remaining / (self.total_steps - self.warmup_steps)
        # Half a cosine as the square of a sine, which is accurate where the rate is near `final`.
        falling = self.final + (self.peak - self.final) * ops.square(
            ops.sin(math.pi / 2 * fraction)
        )
        return _after_warmup(step, self.peak, self.warmup_steps, falling)

    def get_config(self):
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "final": self.final,
        }


@keras.saving.register_keras_serializable(package="keras_convnext")
class WarmupSteps(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly from 0, then falls by a factor every `step_size` updates.

    Steps are counted from the start of the run, so a warm-up does not shift them. The last update
    of the warm-up has the peak, as in `WarmupCosine`. Source: `torch.optim.lr_scheduler.StepLR`,
    with the values of "Deep Residual Learning for Image Recognition", He et al. 2016.

    Args:
        peak: Highest learning rate.
        step_size: Number of updates between two falls.
        factor: Factor on the rate at each fall, in [0, 1]. Defaults to 0.1.
        warmup_steps: Number of updates of the warm-up. Defaults to 0.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> schedule = keras_convnext.schedules.WarmupSteps(0.1, step_size=30 * 5_004)
        >>> model.compile(keras_convnext.optimizers.SGD(schedule), loss="categorical_crossentropy")
    """

    def __init__(
        self, peak: float, step_size: int, factor: float = 0.1, warmup_steps: int = 0
    ) -> None:
        if step_size < 1 or warmup_steps < 0 or not 0 <= factor <= 1:
            raise ValueError(
                f"`step_size` must be at least 1, `warmup_steps` at least 0, and `factor` in "
                f"[0, 1]. Received: step_size={step_size}, warmup_steps={warmup_steps}, "
                f"factor={factor}."
            )
        self.peak = peak
        self.step_size = step_size
        self.factor = factor
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        steps = ops.floor_divide(ops.cast(step, "int32"), self.step_size)
        falling = self.peak * ops.power(self.factor, ops.cast(steps, "float32"))
        return _after_warmup(step, self.peak, self.warmup_steps, falling)

    def get_config(self):
        return {
            "peak": self.peak,
            "step_size": self.step_size,
            "factor": self.factor,
            "warmup_steps": self.warmup_steps,
        }


def _after_warmup(step, peak, warmup_steps, rate):
    step = ops.cast(step, "float32")
    return ops.where(step < warmup_steps, peak * (step / max(warmup_steps - 1, 1)), rate)
