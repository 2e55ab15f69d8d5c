"""How processes find each other with JAX, and what they say if they do not."""

from pathlib import Path

import keras
import pytest

if keras.backend.backend() != "jax":
    pytest.skip("these processes are joined by JAX", allow_module_level=True)

import quick_python
from local_processes import environments
from on_devices import outputs, start

from keras_convnext.distribution.jax import process_group
from keras_convnext.distribution.jax.process_group import Group, group_of_environment
from keras_convnext.errors import UserError

ADDRESS = process_group.ADDRESSES
COUNT = process_group.PROCESSES
NUMBER = process_group.PROCESS
JOIN = Path(__file__).parents[2] / "helpers" / "join_group.py"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in (ADDRESS, COUNT, NUMBER, *process_group.SIZES_BY_LAUNCHER.values()):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def set_variables(monkeypatch):
    def set_variables(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


def test_without_variables_a_process_is_on_its_own():
    assert group_of_environment() is None
    assert process_group.launched_processes() == 1


@pytest.mark.parametrize("addresses", ["10.0.0.1:1234", "10.0.0.1:1234,10.0.0.2:1234"])
def test_reads_what_keras_reads(addresses, set_variables):
    set_variables({ADDRESS: addresses, COUNT: "2", NUMBER: "1"})
    group = group_of_environment()
    assert group == Group("10.0.0.1:1234", 2, 1)
    assert group.main_host == "10.0.0.1"
    assert process_group.launched_processes() == 2


@pytest.mark.parametrize("variable", process_group.SIZES_BY_LAUNCHER.values())
def test_under_a_launcher_jax_finds_out(variable, set_variables):
    set_variables({variable: "4"})
    assert group_of_environment() == Group()
    assert process_group.launched_processes() == 4
    set_variables({variable: "1"})
    assert group_of_environment() is None


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({COUNT: "2"}, f"{ADDRESS} and {NUMBER} are not set"),
        ({ADDRESS: "a:1", COUNT: "2"}, f"{NUMBER} is not set"),
        ({ADDRESS: "a:1", COUNT: "two", NUMBER: "0"}, "whole number. Received: 'two'"),
        ({ADDRESS: "a:1", COUNT: "2", NUMBER: "2"}, "from 0 to 1"),
        ({ADDRESS: "a", COUNT: "2", NUMBER: "0"}, "a host and a port"),
        ({ADDRESS: "a:1,b:1,c:1", COUNT: "2", NUMBER: "0"}, "one for each of the 2 processes"),
    ],
)
def test_a_wrong_environment_is_refused(variables, message, set_variables):
    set_variables(variables)
    with pytest.raises(UserError, match=message):
        group_of_environment()


def test_processes_wait_for_a_late_one_but_not_forever():
    def join(group, process, timeout):
        variables = group[process] | {"KERAS_CONVNEXT_START_TIMEOUT": str(timeout)}
        return quick_python.start(JOIN, environment=variables)

    nobody, alone, together = (environments("jax", 2) for _ in range(3))
    processes = [
        join(nobody, 1, 2),
        join(alone, 0, 2),
        *(join(together, process, 60) for process in range(2)),
    ]
    no_answer, incomplete, *complete = outputs(processes)
    assert [process.returncode for process in processes] == [2, 2, 0, 0]
    assert f"waited 2 seconds, but nothing answers at {nobody[0][ADDRESS]}" in no_answer
    assert f"waited 2 seconds, but not all processes came to {alone[0][ADDRESS]}" in incomplete
    assert all("2" in text.splitlines() for text in complete)


def test_a_deterministic_run_is_joined_before_jax_is_used(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from keras_convnext import load_recipe, train\n"
        "settings = ['runtime.deterministic=true', 'data.batch_size=63']\n"
        f"train(load_recipe('quickstart/digits', settings), {str(tmp_path / 'run')!r})\n"
    )
    for output in outputs(start(2, script=(script,))):
        assert "63 images cannot be divided equally among 2 devices" in " ".join(output.split())
