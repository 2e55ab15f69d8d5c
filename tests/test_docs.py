"""The documentation: it builds without a warning, its code runs, and its tables are true."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import quick_python
from PIL import Image
from small_tiny import replace_tiny

import keras_convnext

pytestmark = pytest.mark.backend_free

ROOT = Path(__file__).parents[1]
HELPERS = Path(__file__).parent / "helpers"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    "README.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
    "CONTRIBUTING.md",
]


def blocks(page):
    """Returns the code blocks of a page: pairs of "python" or "shell", and the text."""
    kinds = {"": "shell", "python": "python", "text": None, "bibtex": None, "yaml": None}
    found = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    return [(kinds[kind], text) for kind, text in found if kinds[kind]]


def check_command(line):
    """Checks a command that the tests do not run; returns whether it has to be run."""
    words = shlex.split(line, comments=True)
    if words[:2] == ["pip", "install"]:
        check_requirements(words[2:])
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets, line
    elif words[0] == "tensorboard":
        assert shutil.which("tensorboard", path=Path(sys.executable).parent)
    elif words[0] == "python" and words[1].startswith("benchmarks/"):
        assert (ROOT / words[1]).is_file(), line
    elif words[0] == "pre-commit":
        assert (ROOT / ".pre-commit-config.yaml").is_file()
    else:
        assert words[0] == "keras-convnext" or words[1].startswith("examples/"), line
        return True
    return False


def check_requirements(requirements):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for requirement in requirements:
        package, _, named = requirement.rstrip("]").partition("[")
        assert package in ("keras-convnext", "pillow")
        assert set(filter(None, named.split(","))) <= set(extras)


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory):
    """A cache of the Hugging Face Hub that holds two checkpoints with random values."""
    cache = tmp_path_factory.mktemp("hub")
    for tag, classes in (("fb_in1k", 1000), ("fb_in22k", 21841)):
        with pytest.MonkeyPatch.context() as patch:
            replace_tiny(patch.setitem)
            model = keras_convnext.ConvNeXtTiny(classes=classes)
        folder = cache / f"models--timm--convnext_tiny.{tag}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("0" * 40)
        snapshot = folder / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        keras_convnext.save_weights(model, snapshot / "model.safetensors", format="timm")
    return cache


@pytest.fixture
def workplace(tmp_path, hub_cache, write_images):
    """A directory that has what the pages mention: photographs, examples, a toy command."""
    write_images(tmp_path, {"cat.jpg": 90, "dog.jpg": 160}, size=(64, 48))
    photos = {
        f"{part}{name}/{number}.jpg": value + number
        for part in ("", "train/", "val/")
        for name, value in (("cat", 90), ("dog", 160))
        for number in range(2)
    }
    write_images(tmp_path / "photos", photos, size=(64, 48))
    folders = {f"{synset}/1.jpg": 100 for synset in keras_convnext.imagenet.synsets()[:3]}
    write_images(tmp_path / "imagenet" / "val", folders, size=(8, 8))
    for name in ("examples", "benchmarks", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = tmp_path / "bin" / "keras-convnext"
    command.parent.mkdir()
    # A recipe's backend must not contradict the environment's.
    toy = f'exec env -u KERAS_BACKEND {sys.executable} {HELPERS / "toy_command.py"} "$@"'
    command.write_text(f"#!/bin/sh\n{toy}\n")
    command.chmod(0o755)
    return tmp_path


def run_blocks(page, workplace, hub_cache):
    runnable = []
    for kind, text in blocks(page):
        if kind == "shell":
            commands = text.replace("\\\n", " ").splitlines()
            text = "\n".join(command for command in commands if check_command(command))
        if text:
            runnable.append((kind, text))
    (workplace / "blocks.json").write_text(json.dumps(runnable))
    environment = {
        "PATH": os.pathsep.join(
            [str(workplace / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        ),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "HF_HUB_CACHE": str(hub_cache),
        "HF_HUB_OFFLINE": "1",
        "IMAGES": "2" if page == "README.md" else "0",
    }
    process = quick_python.run(
        HELPERS / "run_blocks.py", "blocks.json", environment=environment, cwd=workplace
    )
    assert process.returncode == 0, process.stdout[-4000:]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if page == "README.md" else pytest.mark.slow)
        for page in PAGES
        if blocks(page)
    ],
)
def test_the_code_of_a_page_runs(page, workplace, hub_cache):
    run_blocks(page, workplace, hub_cache)


def test_the_readme_is_short_and_counts_the_checkpoints():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 130
    assert f"the {len(keras_convnext.list_weights())} published checkpoints" in text


@pytest.fixture
def doc_tables(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import doc_tables

    return doc_tables


def test_a_table_in_the_readme_is_that_of_the_measurements(doc_tables):
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"<!-- checked table: (\S+) -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert found
    for name, table in found:
        assert table == doc_tables.TABLES[name]()


def test_every_key_of_a_recipe_is_described(doc_tables):
    rows = [line for line in doc_tables.recipe_keys().splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    for row in rows:
        key, _, _, meaning = (cell.strip() for cell in row.strip("|").split(" | "))
        assert meaning, key


def test_every_public_name_is_in_the_api_pages():
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    documented = re.findall(r"^::: keras_convnext\.([\w.]+)$", pages, re.MULTILINE)
    modules = {name.split(".")[0] for name in documented}
    names = {name.split(".")[-1] for name in documented}
    assert set(keras_convnext.__all__) - names - modules == set()
    for module in ("layers", "optimizers", "schedules"):
        classes = {n for n in vars(getattr(keras_convnext, module)) if n[0].isupper()}
        assert classes <= names, module


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    home = (tmp_path / "site" / "index.html").read_text()
    assert 'src="images/speed.png"' in home
    assert (tmp_path / "site/files/benchmarks/results/digits.json").is_file()
    assert not re.search(r"<(?:link|script)[^>]+(?:href|src)=\"https?://", home)


def test_links_of_pages_outside_the_site_lead_somewhere():
    for page in ("CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "README.md", "ARCHITECTURE.md"):
        if not (ROOT / page).exists():
            continue
        for target in re.findall(r"\]\(([^)#\s]+)\)", (ROOT / page).read_text()):
            assert "://" in target or (ROOT / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("name", ["speed.png", "digits_curves.png"])
def test_a_picture_is_a_picture(name):
    picture = np.asarray(Image.open(ROOT / "docs" / "images" / name).convert("L"))
    assert picture.std() > 10
