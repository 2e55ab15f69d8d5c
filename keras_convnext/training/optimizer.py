"""A recipe's optimizer, with its schedule."""

from typing import Any

from keras.optimizers.schedules import LearningRateSchedule

from keras_convnext.optimizers import LAMB, SGD, AdamW
from keras_convnext.recipe import Recipe
from keras_convnext.runs.plan import Plan
from keras_convnext.schedules import WarmupCosine, WarmupSteps


def make_optimizer(recipe: Recipe, plan: Plan) -> AdamW | LAMB | SGD:
    """Returns the optimizer of a recipe, for a run as long as its plan says."""
    settings = recipe.optimizer
    steps = settings.gradient_accumulation_steps
    arguments: dict[str, Any] = {
        "learning_rate": make_schedule(recipe, plan),
        "weight_decay": settings.weight_decay,
        "decay_vectors": settings.decay_vectors,
        "global_clipnorm": settings.global_clipnorm,
        "layer_decay": settings.layer_decay,
        "layer_decay_rule": settings.layer_decay_rule,
        # Keras takes no 1 here.
        "gradient_accumulation_steps": steps if steps > 1 else None,
    }
    if settings.ema_decay is not None:
        arguments |= {"use_ema": True, "ema_momentum": settings.ema_decay}
    if settings.name == "sgd":
        return SGD(momentum=settings.momentum, **arguments)
    kind = LAMB if settings.name == "lamb" else AdamW
    return kind(
        beta_1=settings.beta_1, beta_2=settings.beta_2, epsilon=settings.epsilon, **arguments
    )


def make_schedule(recipe: Recipe, plan: Plan) -> LearningRateSchedule:
    """Returns the learning rate of a recipe, for a run as long as its plan says."""
    settings = recipe.schedule
    if settings.name == "step":
        return WarmupSteps(
            settings.learning_rate,
            settings.step_epochs * plan.updates_per_epoch,
            settings.gamma,
            plan.warmup_updates,
        )
    return WarmupCosine(
        settings.learning_rate,
        plan.total_updates,
        plan.warmup_updates,
        settings.final_learning_rate,
    )
