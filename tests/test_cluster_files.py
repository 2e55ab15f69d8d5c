"""The job files of examples/cluster: what they start, with stand-ins for a cluster's commands."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import kubernetes_validate
import pytest
import typer
import yaml

from keras_convnext.cli import app
from keras_convnext.recipe import load_recipe

pytestmark = pytest.mark.backend_free

CLUSTER = Path(__file__).parents[1] / "examples" / "cluster"
SCRIPTS = ("start.sh", "slurm.sbatch")
RECORD = """#!{python}
import json, os, sys
command = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
with open({records!r}, "a") as file:
    print(json.dumps([command, dict(os.environ)]), file=file)
"""
# Runs the command of a step on each node in turn, as the nodes' only task.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do echo "srun $1" >>"$CALLS"; shift; done
for ((node = 0; node < SLURM_JOB_NUM_NODES; node++)); do
    SLURM_NODEID=$node SLURM_PROCID=$node SLURM_LOCALID=0 "$@" || exit
done
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*" >>"$CALLS"
[[ $1 == show ]] && printf 'gpu-%s\\n' 07 12 13 20
exit 0
"""


class StandIns:
    """Commands of a cluster that write down how they are called, and a shell that finds them."""

    def __init__(self, folder):
        self.folder = folder
        self.records, self.calls = folder / "records", folder / "calls"
        record = RECORD.format(python=sys.executable, records=str(self.records))
        for name in ("python", "torchrun"):
            self.write(name, record)
        self.write("getent", "#!/bin/sh\n")
        self.write("srun", SRUN)
        self.write("scontrol", SCONTROL)

    def write(self, name, text):
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def command(self, script, *arguments):
        return ["bash", str(CLUSTER / script), *arguments]

    def environment(self, **variables):
        return {
            "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}",
            "CALLS": str(self.calls),
            **variables,
        }

    def slurm(self, backend, **variables):
        """Returns the environment of a Slurm job on four nodes."""
        return self.environment(
            KERAS_BACKEND=backend,
            SLURM_JOB_ID="4711",
            SLURM_JOB_NODELIST="gpu-[07,12-13,20]",
            SLURM_JOB_NUM_NODES="4",
            SLURM_GPUS_ON_NODE="8",
            SLURM_CPUS_ON_NODE="112",
            SLURM_SUBMIT_DIR=str(CLUSTER.parents[1]),
            **variables,
        )

    def run(self, script, *arguments, environment):
        return subprocess.run(
            self.command(script, *arguments),
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def started(self):
        """Returns the commands that would have trained, and their environments."""
        return [json.loads(line) for line in self.records.read_text().splitlines()]


@pytest.fixture
def stand_ins(tmp_path):
    return StandIns(tmp_path)


@pytest.fixture
def started_by_slurm(stand_ins):
    def start(backend):
        process = stand_ins.run(
            *("slurm.sbatch", "imagenet1k/convnext_tiny", "data.path=/my data"),
            environment=stand_ins.slurm(backend),
        )
        assert process.returncode == 0, process.stderr
        return stand_ins.started()

    return start


TRAIN = ["-m", "keras_convnext", "train", "imagenet1k/convnext_tiny", "data.path=/my data"]
DISTRIBUTION = ["distribution.name=data_parallel", "distribution.devices=32"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_are_without_faults(script):
    subprocess.run(["bash", "-n", CLUSTER / script], check=True)
    shellcheck = Path(sys.executable).parent / "shellcheck"
    process = subprocess.run(
        [shellcheck, "--severity=warning", CLUSTER / script], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout


def test_slurm_starts_torchrun_on_every_host(started_by_slurm):
    started = started_by_slurm("torch")
    assert len(started) == 4
    for node, (command, _) in enumerate(started):
        options = [
            *("--nnodes=4", "--nproc-per-node=8", "--max-restarts=3", "--rdzv-backend=c10d"),
            *("--rdzv-id=convnext", "--rdzv-endpoint=gpu-07:24711"),
            f"--rdzv-conf=join_timeout=300,is_host={'true' if node == 0 else 'false'}",
            f"--local-addr=gpu-{('07', '12', '13', '20')[node]}",
        ]
        assert command == ["torchrun", *options, *TRAIN, *DISTRIBUTION]


def test_slurm_starts_one_process_of_jax_on_every_host(started_by_slurm):
    started = started_by_slurm("jax")
    assert len(started) == 4
    for node, (command, environment) in enumerate(started):
        assert command == ["python", *TRAIN, *DISTRIBUTION]
        found = {name: environment.get(f"KERAS_DISTRIBUTION_{name}") for name in KERAS_VARIABLES}
        assert found == dict(zip(KERAS_VARIABLES, ("gpu-07:24711", "4", str(node)), strict=True))
        assert environment["JAX_LOCAL_DEVICE_IDS"] == "0,1,2,3,4,5,6,7"


KERAS_VARIABLES = ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")


def test_slurm_starts_one_process_of_tensorflow_on_every_host(started_by_slurm):
    started = started_by_slurm("tensorflow")
    assert len(started) == 4
    for node, (command, environment) in enumerate(started):
        assert command == ["python", *TRAIN, *DISTRIBUTION]
        assert json.loads(environment["TF_CONFIG"]) == {
            "cluster": {"worker": [f"gpu-{host}:24711" for host in ("07", "12", "13", "20")]},
            "task": {"type": "worker", "index": node},
        }


def test_a_step_has_all_processors_and_ends_when_a_host_fails(started_by_slurm, stand_ins):
    started_by_slurm("jax")
    assert "srun --cpus-per-task=112" in stand_ins.calls.read_text()
    assert "srun --kill-on-bad-exit=1" in stand_ins.calls.read_text()


FAILS_UNTIL = """#!/bin/bash
echo attempt >>"$CALLS"
(($(grep -c attempt "$CALLS") > {failures})) || exit 3
"""


@pytest.mark.parametrize(("failures", "status", "attempts"), [(1, 0, 2), (9, 3, 3)])
def test_slurm_starts_again_what_failed(stand_ins, failures, status, attempts):
    stand_ins.write("srun", FAILS_UNTIL.format(failures=failures))
    process = stand_ins.run("slurm.sbatch", "r", environment=stand_ins.slurm("jax", RESTARTS="2"))
    assert process.returncode == status
    assert stand_ins.calls.read_text().count("attempt") == attempts
    assert "Training ended with status 3 in attempt 0." in process.stdout


def test_near_the_time_limit_the_job_is_put_back(stand_ins):
    stand_ins.write("srun", '#!/bin/bash\necho training >>"$CALLS"\nexec sleep 60\n')
    process = subprocess.Popen(
        stand_ins.command("slurm.sbatch", "r"),
        env=stand_ins.slurm("jax"),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 30
        while "training" not in (stand_ins.calls.read_text() if stand_ins.calls.exists() else ""):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(timeout=30) == 0
        assert stand_ins.calls.read_text().splitlines()[-1] == "scontrol requeue 4711"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("KERAS_BACKEND", "KERAS_BACKEND: must be torch, jax or tensorflow"),
        ("HOSTS", "NODES: and HOST_NAMES must be set, or HOSTS"),
        ("NODE", "NODE must be set: the place of this host"),
    ],
)
def test_what_a_host_must_know(stand_ins, missing, message):
    variables = {"KERAS_BACKEND": "jax", "HOSTS": "a b", "NODE": "1"}
    del variables[missing]
    process = stand_ins.run("start.sh", "r", environment=stand_ins.environment(**variables))
    assert process.returncode != 0
    assert message in process.stderr


def test_a_host_without_an_address_is_named(stand_ins):
    stand_ins.write("getent", '#!/bin/sh\ntest "$2" != b\n')
    variables = stand_ins.environment(
        KERAS_BACKEND="jax", HOSTS="a b", NODE="0", KERAS_CONVNEXT_START_TIMEOUT="1"
    )
    process = stand_ins.run("start.sh", "r", environment=variables)
    assert process.returncode == 1
    assert process.stderr == "b has no address after 1 s.\n"


def test_another_backend_is_refused(stand_ins):
    variables = stand_ins.environment(KERAS_BACKEND="openvino", HOSTS="a", NODE="0")
    process = stand_ins.run("start.sh", "r", environment=variables)
    assert process.returncode == 1
    assert process.stderr == (
        "KERAS_BACKEND must be torch, jax or tensorflow. Received: openvino.\n"
    )


@pytest.fixture(scope="module")
def manifests():
    """The Service and the Job of kubernetes.yaml."""
    documents = list(yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["Service", "Job"]
    return documents


@pytest.fixture
def container(manifests):
    [container] = manifests[1]["spec"]["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("version", ["1.31", kubernetes_validate.latest_version()])
def test_the_manifests_follow_the_schemas_of_kubernetes(manifests, version):
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_refuse_a_misspelt_field(manifests):
    job = {**manifests[1], "spec": {**manifests[1]["spec"], "backofLimit": 3}}
    with pytest.raises(kubernetes_validate.ValidationError, match="backofLimit"):
        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)


def test_the_parts_of_the_manifests_name_each_other(manifests, container):
    service, job = manifests
    name, pod = job["metadata"]["name"], job["spec"]["template"]["spec"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert service["spec"]["selector"] == {"job-name": name}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert environment["HOST_NAMES"] == f"{name}-%d.{pod['subdomain']}"
    hosts = int(environment["NODES"])
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == hosts
    assert job["spec"]["backoffLimit"] == 4 * hosts
    assert container["resources"]["limits"]["nvidia.com/gpu"] == int(environment["GPUS"])
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    kustomization = yaml.safe_load((CLUSTER / "kustomization.yaml").read_text())
    [generated] = kustomization["configMapGenerator"]
    assert {"name": "start", "configMap": {"name": generated["name"]}} in pod["volumes"]
    assert generated["files"] == ["start.sh"] and kustomization["resources"] == ["kubernetes.yaml"]
    assert container["command"] == ["bash", "/cluster/start.sh"]


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_a_pod_starts_its_part(stand_ins, container, backend):
    environment = {one["name"]: one["value"] for one in container["env"]}
    environment |= {"KERAS_BACKEND": backend, "JOB_COMPLETION_INDEX": "2"}
    process = stand_ins.run(
        "start.sh", *container["args"], environment=stand_ins.environment(**environment)
    )
    assert process.returncode == 0, process.stderr
    [[command, variables]] = stand_ins.started()
    assert command[command.index("-m") :] == [
        *("-m", "keras_convnext", "train", *container["args"], *DISTRIBUTION)
    ]
    check_arguments(container["args"])
    if backend == "torch":
        assert "--rdzv-endpoint=convnext-0.convnext:29500" in command
        assert "--rdzv-conf=join_timeout=1800,is_host=false" in command
    elif backend == "jax":
        assert variables["KERAS_DISTRIBUTION_JOB_ADDRESSES"] == "convnext-0.convnext:29500"
        assert variables["KERAS_DISTRIBUTION_PROCESS_ID"] == "2"
    else:
        config = json.loads(variables["TF_CONFIG"])
        assert config["cluster"]["worker"][3] == "convnext-3.convnext:29500"
        assert config["task"]["index"] == 2


def check_arguments(arguments):
    """Checks arguments of `keras-convnext train`: the options, the recipe and its settings."""
    train = typer.main.get_command(app).commands["train"]
    parsed = train.make_context("train", list(arguments)).params
    return load_recipe(parsed["recipe"], [*(parsed["settings"] or ()), *DISTRIBUTION])


def documented_commands():
    """Returns the arguments of the job scripts in the README and in the scripts' headers."""
    commands = []
    for name in ("README.md", *SCRIPTS):
        text = (CLUSTER / name).read_text().replace("\n#", "\n").replace("\\\n", " ")
        for found in re.finditer(r"(?:slurm\.sbatch|bash start\.sh) +(\S+/.*)", text):
            commands.append(shlex.split(found[1]))
    return commands


def test_documented_commands_have_recipes_and_settings_that_exist():
    commands = documented_commands()
    assert len(commands) == 4
    for arguments in commands:
        check_arguments(arguments)


def test_the_layouts_make_up_the_recipes_batch():
    rows = re.findall(
        r"^\|[^|]*\| `(\S+)` \| (\d+) \| (\d+) \| (\d+) \|$",
        (CLUSTER / "README.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) == 6
    for recipe, hosts, gpus, images in rows:
        path = ["data.path=photos"] if recipe.startswith("imagenet22k") else []
        batch_size = load_recipe(recipe, path).data.batch_size
        assert int(hosts) * int(gpus) * int(images) == batch_size, recipe
