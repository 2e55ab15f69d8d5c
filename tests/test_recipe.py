import functools
import subprocess
import sys
import textwrap
import time

import pytest
import yaml

from keras_convnext.errors import RecipeError
from keras_convnext.recipe import Recipe, Schedule, load_recipe
from keras_convnext.recipe.renamed import RENAMED, RUN_HEADER
from keras_convnext.recipe.sections.base import Section

pytestmark = pytest.mark.backend_free

# The least a recipe must say.
LEAST = """
name: least
model: {name: convnext_tiny}
data: {source: digits}
schedule: {}
"""


@pytest.fixture
def load(tmp_path):
    """Loads a recipe given as text."""

    def load(text, *overrides):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return load_recipe(path, overrides)

    return load


@pytest.fixture
def errors(load):
    """Returns the message with which a recipe is refused."""

    def errors(text, *overrides):
        with pytest.raises(RecipeError) as caught:
            load(text, *overrides)
        return str(caught.value)

    return errors


def test_the_folder_recipe_asks_for_its_path(recipes):
    with pytest.raises(RecipeError, match="pass data.path=DIR"):
        load_recipe(recipes / "quickstart/folder.yaml")


def test_defaults_are_the_papers(load):
    recipe = load(LEAST)
    assert (recipe.schedule.epochs, recipe.schedule.warmup_epochs) == (300, 20)
    assert (recipe.schedule.learning_rate, recipe.schedule.final_learning_rate) == (4e-3, 1e-6)
    assert (recipe.optimizer.weight_decay, recipe.optimizer.epsilon) == (0.05, 1e-8)
    assert (recipe.augment.mixup_alpha, recipe.augment.cutmix_alpha) == (0.8, 1.0)
    assert recipe.augment.label_smoothing == 0.1
    assert (recipe.augment.policy, recipe.augment.random_erasing) == ("paper", 0.25)
    operations = {"operations": 2, "magnitude": 0.9, "magnitude_std": 0.05, "probability": 0.5}
    assert recipe.augment.rand_augment.model_dump() == {**operations, "kinds": "all"}
    assert recipe.augment.random_resized_crop.area == (0.08, 1.0)
    assert recipe.network.arguments == {"depths": (3, 3, 9, 3), "dims": (96, 192, 384, 768)}


def test_keras_cv_brings_its_defaults_where_nothing_is_said(load):
    augment = load(LEAST, "augment.policy=keras_cv").augment
    settings = augment.rand_augment
    assert (settings.magnitude, settings.magnitude_std) == (0.5, 0.15)
    assert settings.probability == pytest.approx(10 / 11)
    assert augment.random_erasing == 0
    settings = load(LEAST, "augment={policy: keras_cv, rand_augment: {probability: 0.3}}").augment
    assert (settings.rand_augment.probability, settings.rand_augment.magnitude) == (0.3, 0.5)
    null = load(LEAST, "augment={policy: keras_cv, rand_augment: null}").augment
    assert null.rand_augment is None


@pytest.mark.parametrize(
    ("policy", "in_targets", "in_loss"), [("paper", 0.3, 0.0), ("keras_cv", 0.0, 0.3)]
)
def test_labels_are_smoothed_once(load, policy, in_targets, in_loss):
    augment = load(LEAST, f"augment={{policy: {policy}, label_smoothing: 0.3}}").augment
    assert (augment.smoothing_in_targets, augment.smoothing_in_loss) == (in_targets, in_loss)


def test_a_named_model_brings_its_architecture(load):
    recipe = load(
        """
        name: iso
        model: {name: convnext_isotropic_small}
        data: {source: digits}
        schedule: {epochs: 100}
        """
    )
    assert (recipe.network.depths, recipe.network.dims) == ((18,), (384,))
    assert (recipe.model.patch_size, recipe.model.stem_norm) == (16, False)
    assert recipe.model.layer_scale_init_value is None


def test_resolved_yaml_loads_as_the_same_recipe(load, recipes):
    recipe = load_recipe(recipes / "quickstart/digits.yaml", ["runtime.backend=jax"])
    assert load(recipe.to_yaml()) == recipe


def test_every_error_is_listed_at_once(errors):
    message = errors(
        """
        name: bad
        model: {name: convnext_tony}
        data: {source: digits, image_sise: 64, batch_size: many}
        augment: {horizontal_flip: 1.5}
        schedule: {epochs: 0, warmup_epochs: 0}
        shedule: {}
        """
    )
    assert "6 errors" in message.splitlines()[0]
    assert "model.name: There is no model called 'convnext_tony'. Did you mean" in message
    assert "'convnext_tiny'" in message
    assert "data.image_sise: unknown key. Did you mean 'image_size'?" in message
    assert "data.batch_size: expected a decimal number" in message
    assert "Received: 'many'." in message
    assert "augment.horizontal_flip: Input should be less than or equal to 1" in message
    assert "schedule.epochs: Input should be greater than or equal to 1" in message
    assert "shedule: unknown key. Did you mean 'schedule'?" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.depths=[1,1]", "model: give either `name`, or `depths` and `dims`"),
        ("model.name=null", "model: give either `name`, or `depths` and `dims`"),
        ("model={depths: [1, 1], dims: [8]}", "must both be given and be equally long"),
        ("model={depths: [1, 1]}", "must both be given and be equally long"),
        ("model={depths: [], dims: []}", "model.depths: Tuple should have at least 1 item"),
        ("model={depths: [0], dims: [8]}", "model.depths.0: Input should be greater than"),
        ("model.kernel_size=4", "model.kernel_size: the kernel size must be odd"),
        ("data.path=DIR", "the source 'digits' takes no `path`"),
        ("data.source=folder", "the source 'folder' needs `path`; pass data.path=DIR"),
        ("data.source=imagenet", "data.source: Input should be 'digits', 'folder' or 'tfds'"),
        ("data.image_size=16", "needs at least 32 pixels"),
        ("schedule.epochs=20", r"`warmup_epochs` (20) must be fewer than `epochs` (20)"),
        ("augment.random_resized_crop.area=[1, 0.5]", "the first number must not exceed the"),
        ("augment.random_resized_crop.area=[0.5, 2]", "cannot exceed 1"),
        ("augment.random_resized_crop.sise=1", "unknown key. The keys here are: area, ratio."),
        ("augment.rand_augment=5", "augment.rand_augment: expected keys indented below it"),
        ("augment={policy: keras_cv, rand_augment: 5}", "augment.rand_augment: expected keys"),
        ("augment.policy=timm", "augment.policy: Input should be 'paper', 'keras_cv' or"),
        ("augment.polcy=paper", "augment.polcy: unknown key. Did you mean 'policy'?"),
        ("augment.rand_augment.magnitud=1", "magnitud: unknown key. Did you mean 'magnitude'?"),
        ("augment.rand_augment.magnitude=9", "magnitude: Input should be less than or equal"),
        ("augment.random_erasing=2", "augment.random_erasing: Input should be less than"),
        (
            "augment={policy: keras_cv, random_erasing: 0.25}",
            "augment: the policy 'keras_cv' takes neither `random_erasing` nor `trivial_augment`;",
        ),
        (
            "augment={policy: keras_cv, rand_augment: {probabilty: 1}}",
            "augment.rand_augment.probabilty: unknown key. Did you mean 'probability'?",
        ),
        ("schedule=", "schedule: expected keys indented below it. Received: None."),
        ("optimizer.global_clipnorm=1e400", "global_clipnorm: Input should be a finite number"),
        ("name=a/b", "name: String should match pattern"),
        ("optimizer.weight_decay=.nan", "optimizer.weight_decay: expected a decimal number"),
        ("optimizer.global_clipnorm=.inf", "optimizer.global_clipnorm: expected a decimal number"),
        ("runtime.backend=theano", "runtime.backend: Input should be 'tensorflow', 'jax' or"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(errors, change, message):
    assert message in errors(LEAST, change)


@pytest.mark.parametrize("word", ["yes", "no", "on", "false"])
@pytest.mark.parametrize("key", ["schedule.epochs", "model.drop_path_rate"])
def test_yes_and_no_are_no_numbers(errors, key, word):
    assert f"{key}: expected a decimal number" in errors(LEAST, f"{key}={word}")


def test_yes_and_no_are_no_numbers_inside_a_list(errors):
    message = errors(LEAST, "model={depths: [yes, 2], dims: [8, 16]}")
    assert "model.depths: expected a decimal number" in message


def test_pythons_booleans_are_no_numbers():
    with pytest.raises(ValueError, match="expected a value, not true or false"):
        Schedule(epochs=True)


@pytest.mark.parametrize("word", ["no", "off", "False", "false"])
def test_a_switch_takes_yes_and_no(load, word):
    assert load(LEAST, f"export.saved_model={word}").export.saved_model is False
    assert load(LEAST + f"export: {{saved_model: {word}}}").export.saved_model is False


@pytest.mark.parametrize("word", ["maybe", "1", "0", "null", "[true]"])
def test_a_switch_takes_nothing_else(errors, word):
    assert "export.saved_model: " in errors(LEAST, f"export.saved_model={word}")


def test_a_switch_that_is_off_does_not_act(load):
    assert load(LEAST, "augment.trivial_augment=off").augment.rand_augment is not None
    assert load(LEAST, "augment.trivial_augment=on").augment.rand_augment is None


NO_DECIMALS = ["0x1F", "017", "0o17", "1_000", "1:30", "0b11", "٣", "1e", "--3", ".nan", "'1_0'"]


@pytest.mark.parametrize("number", NO_DECIMALS)
@pytest.mark.parametrize(
    "key", ["schedule.epochs", "optimizer.weight_decay", "optimizer.global_clipnorm"]
)
def test_a_number_is_decimal(errors, key, number):
    section, name = key.split(".")
    in_file = LEAST.replace("schedule: {}", "") + f"{section}: {{{name}: {number}}}\n"
    for message in (errors(LEAST, f"{key}={number}"), errors(in_file)):
        assert f"{key}: expected a decimal number, such as 10, 0.5 or 4e-3. Received: " in message


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), (".5", 0.5), ("5.", 5), ("+2", 2), ("1E-2", 0.01), ("0.25", 0.25)],
)
def test_a_decimal_number_may_be_written_in_many_ways(load, text, number):
    assert load(LEAST, f"optimizer.weight_decay={text}").optimizer.weight_decay == number


# What YAML 1.1 reads as numbers, dates, booleans, comments, structure or nothing at all.
TEXTS = [
    "photos #2", "a: b", "7_7", "1999-12-31", "0x1F", "017", "23:59", "no", "~", "Null", "1e5",
    ".inf", " both ends ", "{x}", "[y]", "*z", "&z", "!z", "%z", "@z", "`z`", "\"q\"", "'q'",
    "it's", "- a", "? a", "|", ">", "C:\\new\\table", "Grüße/猫 🐈", "=", "<<", "a\tb", "a\nb", "#",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_on_the_line_is_what_was_typed(load, text):
    changes = ("data.source=folder", f"data.path={text}", f"data.training_split={text}")
    recipe = load(LEAST, *changes)
    assert (recipe.data.path, recipe.data.training_split) == (text, text)
    assert load(recipe.to_yaml()) == recipe


@pytest.mark.parametrize(
    "text", ["7_7", "1999-12-31", "0x1F", "017", "23:59", "no", "1e5", ".inf", "="]
)
def test_a_text_in_a_file_needs_no_quotes(load, text):
    recipe = load(LEAST + f"init: {{weights: {text}}}\n")
    assert recipe.init.weights == text


def test_a_name_is_what_was_typed(load):
    for name in ("1_0", "2024-01-02", "0x10", "010", "no", "null", "1e3"):
        recipe = load(LEAST, f"name={name}")
        assert recipe.name == name == load(recipe.to_yaml()).name


def test_null_is_none_where_that_is_allowed(load):
    folder = ("data.source=folder", "data.path=x")
    assert load(LEAST, *folder, "data.validation_split=null").data.validation_split is None
    assert load(LEAST, *folder, "data.validation_split=").data.validation_split is None
    text = LEAST.replace("source: digits", "source: folder, path: x, validation_split: ~")
    assert load(text).data.validation_split is None
    text = LEAST.replace("source: digits", "source: folder, path: x, validation_split: 'null'")
    assert load(text).data.validation_split == "null"
    assert load(LEAST, "optimizer.global_clipnorm=null").optimizer.global_clipnorm is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{x: 1}", "data.path: expected text; put text that YAML reads as something else into "),
        ("[y]", "data.path: expected text; put text that YAML reads"),
        ("*z", "Put text into quotes if"),
        ("!z", "Put text into quotes if"),
        ("&z", "the anchor &z has no value"),
        ("a: b", "Put text into quotes if"),
    ],
)
def test_a_text_in_a_file_that_needs_quotes_says_so(errors, value, message):
    in_file = LEAST.replace("data: {source: digits}", f"data:\n  source: folder\n  path: {value}")
    assert message in errors(in_file)


@pytest.mark.parametrize("number", ["4e-3", "4.0e-3", "0.004"])
def test_a_float_may_be_written_without_a_dot(load, number):
    text = LEAST.replace("schedule: {}", f"schedule: {{learning_rate: {number}}}")
    assert load(text).schedule.learning_rate == 4e-3


def test_a_name_of_digits_stays_a_name(load):
    assert load(LEAST.replace("name: least", "name: 2026")).name == "2026"


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_that_is_no_directory_of_its_own_is_refused(errors, name):
    assert "name:" in errors(LEAST, f"name={name}")


@pytest.mark.parametrize("key", ["runtime.seed", "data.split_seed"])
def test_a_seed_too_great_for_numpy_is_refused(errors, key):
    assert f"{key}: Input should be less than" in errors(LEAST, f"{key}={2**32}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", "the key 'name' is given twice"),
        ("data:\n  source: a\n  source: b\n", "the key 'source' is given twice"),
        ("name: [\n", "is not valid YAML"),
        ("a: 1\n---\nb: 2\n", "expected a single document"),
        ("a: !!python/object:os.system x\n", "is not valid YAML"),
        ("- name\n", "must hold sections such as `model:`"),
        ("", "must hold sections such as `model:`"),
        ("1: 2\n", "1: unknown key."),
        ("~: 2\n", "Keys should be strings"),
    ],
)
def test_text_that_is_no_recipe_is_refused(errors, text, message):
    assert message in errors(text)


def test_keys_may_be_merged_from_an_anchor(errors):
    text = "a: &shared {source: digits}\ndata:\n  <<: *shared\nname: x\n"
    message = errors(text)
    assert "a: unknown key" in message and "data" not in message.replace("data, ", "")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="There is no recipe .*nowhere.yaml"):
        load_recipe(tmp_path / "nowhere.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: Zürich".encode("latin-1"))
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "latin.yaml")


def test_overrides_replace_what_the_file_says(load):
    recipe = load(
        LEAST,
        "runtime.seed=7",  # a section the file does not name
        "schedule.learning_rate=1e-3",
        "augment.random_resized_crop.area=[0.5, 1.0]",  # nested
        "augment.rand_augment=null",
        "name=a-b",
    )
    assert recipe.runtime.seed == 7
    assert recipe.schedule.learning_rate == 1e-3
    assert recipe.augment.random_resized_crop.area == (0.5, 1.0)
    assert recipe.augment.random_resized_crop.ratio == (3 / 4, 4 / 3)  # the default stays
    assert recipe.augment.rand_augment is None
    assert recipe.name == "a-b"


def test_an_override_may_hold_an_equals_sign(load):
    recipe = load(LEAST, "data.source=folder", "data.path=/images/size=64")
    assert recipe.data.path == "/images/size=64"


def test_an_override_below_null_makes_a_section(load):
    text = LEAST + "augment: {rand_augment: null}\n"
    assert load(text, "augment.rand_augment.operations=3").augment.rand_augment.operations == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("schedule.epochs", "have the form section.key=value, such as schedule.epochs=10"),
        ("=3", "Received: '=3'"),
        ("schedule.epochs=[", "The value of schedule.epochs is not valid YAML"),
        ("name.first=a", "names keys below 'name', which holds 'least'"),
        ("shedule.epochs=3", "shedule: unknown key. Did you mean 'schedule'?"),
        ("schedule.epoch=3", "schedule.epoch: unknown key. Did you mean 'epochs'?"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(errors, override, message):
    assert message in errors(LEAST, override)


def test_a_recipe_cannot_be_changed(load):
    with pytest.raises(ValueError, match="frozen"):
        load(LEAST).schedule.epochs = 3


def test_early_stopping_may_be_a_number_alone(load):
    stopping = load(LEAST, "schedule.early_stopping=7").schedule.early_stopping
    assert stopping.model_dump() == {"patience": 7, "monitor": "val_accuracy", "min_delta": 0}
    recipe = load(LEAST, "schedule.early_stopping={patience: 2, monitor: loss, min_delta: 1e-3}")
    assert recipe.schedule.early_stopping.min_delta == 1e-3
    assert load(recipe.to_yaml()) == recipe


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("schedule.early_stopping=0", "early_stopping.patience: Input should be greater than"),
        ("schedule.early_stopping=yes", "expected a decimal number"),
        ("schedule.early_stopping={min_delta: 1}", "early_stopping.patience: this key is required"),
        ("schedule.early_stopping={patience: 1, monitor: val_f1}", "should be 'val_accuracy', 'v"),
        (
            "schedule.early_stopping={patience: 1, monitor: val_ema_loss}",
            "monitors val_ema_loss, but optimizer.ema_decay is null",
        ),
        ("data.class_weights=even", "data.class_weights: Input should be 'balanced'"),
    ],
)
def test_what_cannot_end_or_balance_a_run_is_refused(errors, setting, message):
    assert message in errors(LEAST, setting)


def test_early_stopping_needs_its_images(errors):
    message = errors(LEAST, "schedule.early_stopping=1", "data.validation_split=null")
    assert (
        "monitors val_accuracy, but data.validation_split is null; monitor accuracy or" in message
    )


def test_every_key_is_described():
    sections = [Section, *Section.__subclasses__()]
    fields = [(s, n, f) for s in sections for n, f in s.model_fields.items()]
    bare = [
        f"{section.__name__}.{name}"
        for section, name, field in fields
        if section is not Recipe and not field.description
    ]
    assert len(fields) > 40
    assert bare == []


def test_yaml_of_a_recipe_is_plain(load):
    assert yaml.safe_load(load(LEAST).to_yaml())["model"]["name"] == "convnext_tiny"


def test_a_bad_recipe_is_refused_without_a_backend(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(LEAST + "shedule: {}\n")
    began = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-m", "keras_convnext", "recipe", "check", bad],
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - began
    assert process.returncode == 1
    assert process.stdout == ""
    assert "shedule: unknown key. Did you mean 'schedule'?" in process.stderr
    assert "Traceback" not in process.stderr
    assert seconds < 5, "importing a backend takes longer than this"
    print(f"refused in {seconds:.2f} s")


def test_loading_a_recipe_imports_no_backend(recipes):
    script = (
        "import sys; from keras_convnext import load_recipe; load_recipe(sys.argv[1]); "
        "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
    )
    digits = recipes / "quickstart/digits.yaml"
    process = subprocess.run(
        [sys.executable, "-c", script, digits], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "set()"


@pytest.mark.parametrize("old", RENAMED)
def test_a_renamed_key_is_refused_with_its_new_name(errors, old):
    *sections, key = old.split(".")
    text = f"{key}: 1"
    for section in reversed(sections):
        text = f"{section}: {{{text}}}"
    sections_of_least = {line.split(":")[0]: line for line in LEAST.strip().splitlines()}
    least = "\n".join([*({**sections_of_least, sections[0]: text}).values(), ""])
    for message in (errors(LEAST, f"{old}=1"), errors(least)):
        assert f"{old}: this key is called {RENAMED[old]} now." in message


def test_a_stored_recipe_is_read_with_its_old_keys(load):
    old_keys = """
        augment: {repeats: 2, cutmix_share: 0.3, rand_augment: {rate: 0.4, magnitude_deviation: 0}}
        optimizer: {kind: sgd, accumulation: 2, clip_norm: 5}
        schedule: {kind: step, step_factor: 0.5}
    """
    text = LEAST.replace("schedule: {}", "") + textwrap.dedent(old_keys)
    stored = load(RUN_HEADER + text)
    new_keys = text
    for old, new in RENAMED.items():
        new_keys = new_keys.replace(f"{old.split('.')[-1]}:", f"{new.split('.')[-1]}:")
    assert "kind:" not in new_keys
    assert stored == load(new_keys)
    assert load(RUN_HEADER + stored.to_yaml()) == stored


def test_new_names_are_keys(load):
    for new in RENAMED.values():
        *sections, key = new.split(".")
        section = functools.reduce(getattr, sections, load(LEAST))
        assert key in type(section).model_fields


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["distribution=data_parallel"], ("data_parallel", None)),
        (["distribution=data_parallel", "distribution.devices=4"], ("data_parallel", 4)),
        (["distribution.devices=4", "distribution=data_parallel"], ("data_parallel", 4)),
        (["distribution.name=model_parallel", "distribution.devices=4"], ("model_parallel", 4)),
    ],
)
def test_a_section_may_be_given_by_its_main_key(tiny_recipe, overrides, expected):
    distribution = tiny_recipe(*overrides).distribution
    assert (distribution.name, distribution.devices) == expected


def test_another_key_of_a_section_given_by_its_main_key(tiny_recipe):
    short = ["schedule.early_stopping=3", "schedule.early_stopping.min_delta=0.1"]
    stopping = tiny_recipe(*short).schedule.early_stopping
    assert (stopping.patience, stopping.min_delta) == (3, 0.1)
    assert tiny_recipe(*short, "schedule.early_stopping=null").schedule.early_stopping is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["distribution=none", "distribution.devices=2"], "none, which uses one; set `name` to"),
        (["distribution=model_parallel", "distribution.devices=3"], r"\(3\) must be a multiple of"),
        (["distribution=sharded"], "'none', 'auto', 'data_parallel' or 'model_parallel'"),
        (["distribution.devices=0"], "greater than or equal to 1"),
    ],
)
def test_a_distribution_that_cannot_be_is_refused(tiny_recipe, overrides, message):
    with pytest.raises(RecipeError, match=message):
        tiny_recipe(*overrides)
