import json

import pytest

from keras_convnext.errors import DataError
from keras_convnext.runs.plan import Plan, make_plan

pytestmark = pytest.mark.backend_free


def test_the_papers_run_has_its_length(tiny_recipe):
    recipe = tiny_recipe("schedule.epochs=300", "schedule.warmup_epochs=20", "data.batch_size=4096")
    plan = make_plan(recipe, 1_281_167, 50_000, 1000)
    assert plan == Plan(
        training_images=1_281_167,
        validation_images=50_000,
        classes=1000,
        epochs=300,
        updates_per_epoch=312,
        steps_per_epoch=312,
        total_updates=93_600,
        warmup_updates=6_240,
        omitted_images=3_215,
        devices=1,
        device_batch_size=4096,
    )


@pytest.mark.parametrize(("warmup", "steps"), [("0", 0), ("0.5", 2), ("1", 5), ("1.5", 7)])
def test_a_warmup_may_end_within_an_epoch(tiny_recipe, warmup, steps):
    recipe = tiny_recipe(f"schedule.warmup_epochs={warmup}", "data.batch_size=10")
    assert make_plan(recipe, 59, 5, 2).warmup_updates == steps


def test_fewer_images_than_a_batch_are_refused(tiny_recipe):
    recipe = tiny_recipe("data.batch_size=64")
    assert make_plan(recipe, 64, 5, 2).steps_per_epoch == 1
    with pytest.raises(DataError, match=r"63 training images, fewer than one batch of 64\. Add"):
        make_plan(recipe, 63, 5, 2)


def test_a_plan_is_written_as_json(tiny_recipe, tmp_path):
    make_plan(tiny_recipe("data.batch_size=64"), 640, 5, 2).write(tmp_path / "plan.json")
    written = json.loads((tmp_path / "plan.json").read_text())
    assert written["steps_per_epoch"] == 10 and written["total_updates"] == 20


def test_the_images_of_a_step_are_divided_equally(tiny_recipe):
    recipe = tiny_recipe("data.batch_size=24", "optimizer.gradient_accumulation_steps=2")
    plan = make_plan(recipe, 50, 5, 2, devices=4)
    assert (plan.devices, plan.device_batch_size, plan.omitted_images) == (4, 3, 2)
    assert make_plan(recipe, 50, 5, 2, devices=4, data_shards=2).device_batch_size == 6
    with pytest.raises(DataError, match=r"step of 12 images .* among 5 devices.* multiple of 10 "):
        make_plan(recipe, 50, 5, 2, devices=5)
