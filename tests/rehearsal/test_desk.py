"""The whole desk: real agents under it, the control plane on top, a clean end."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import openai
import psutil
import pytest

from control_plane.schema import CONFIGURED, INSTANCES
from gpu_node.protocol import to_attributes
from rehearsal.__main__ import main, options_from
from rehearsal.account import REGION
from rehearsal.desk import Desk, DeskFailure, Options
from rehearsal.ec2 import HOME
from rehearsal.faults import UnknownFault
from rehearsal.stack import models_of_stack

MODELS = ({"name": "org/small", "instanceTypes": ["g5.xlarge"]},)
GROUP = "diogenes-desk-org-small-on-demand"
SECONDS = ("BOOT_SECONDS", "LOAD_SECONDS")
QUICK: dict[str, Any] = {"boot_seconds": 0.2, "load_seconds": 0.2, "models": MODELS}


def wait_until(what: Callable[[], bool], limit_s: float = 20.0) -> None:
    limit = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def nodes_only() -> Iterator[Desk]:
    with Desk(Options(control_plane=False, **QUICK)) as desk:
        yield desk
        assert desk.denied() == []


def start_one(desk: Desk) -> str:
    """One instance of the small model, as a desired capacity; returns its id.

    No control plane adopts the configuration here: the row that a node reads is written by hand.
    """
    account: dict[str, Any] = {
        "endpoint_url": desk.aws_url,
        "region_name": REGION,
        "aws_access_key_id": "desk",
        "aws_secret_access_key": "desk",
    }
    (model,) = MODELS
    row = to_attributes({"name": model["name"], "config": model})
    boto3.client("dynamodb", **account).put_item(TableName="diogenes-desk-models", Item=row)
    autoscaling = boto3.client("autoscaling", **account)
    autoscaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=1)
    autoscaling.close()
    (member,) = desk.instances()[GROUP]
    return member.id


def row_of(desk: Desk, instance_id: str) -> dict[str, Any]:
    key = {INSTANCES.hash_key: {"S": instance_id}}
    return dict(desk.account.row(INSTANCES.full_name(desk.namespace), key) or {})


def is_ready(desk: Desk, instance_id: str) -> bool:
    return row_of(desk, instance_id).get("status") == "ready"


def test_a_real_agent_comes_to_life_and_serves_on_its_own_address(nodes_only: Desk) -> None:
    instance_id = start_one(nodes_only)
    wait_until(lambda: is_ready(nodes_only, instance_id))
    connection = http.client.HTTPConnection(row_of(nodes_only, instance_id)["ip"], 8000, timeout=5)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    connection.close()
    assert "node ready" in nodes_only.node_log(instance_id).read_text()


def test_a_node_whose_engine_dies_takes_itself_down_and_says_why(nodes_only: Desk) -> None:
    instance_id = start_one(nodes_only)
    wait_until(lambda: is_ready(nodes_only, instance_id))
    nodes_only.kill_engine(instance_id)
    wait_until(lambda: not nodes_only.instances())
    assert row_of(nodes_only, instance_id)["error"]["code"] == "engine_crashed"
    assert nodes_only.desired(GROUP) == 0


def test_a_boot_failure_ends_the_node_with_its_code(nodes_only: Desk) -> None:
    nodes_only.add_fault(boot_failure="gated_model")
    instance_id = start_one(nodes_only)
    wait_until(lambda: not nodes_only.instances())
    assert row_of(nodes_only, instance_id)["error"]["code"] == "gated_model"


def test_a_killed_agent_powers_its_machine_off(nodes_only: Desk) -> None:
    instance_id = start_one(nodes_only)
    wait_until(lambda: is_ready(nodes_only, instance_id))
    nodes_only.kill_agent(instance_id)
    wait_until(lambda: not nodes_only.instances())
    assert nodes_only.desired(GROUP) == 1  # the group still lists it, as Unhealthy
    with pytest.raises(KeyError):
        nodes_only.kill_engine(instance_id)


def test_nothing_is_left_after_the_desk_closes() -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with Desk(Options(control_plane=False, **QUICK)) as desk:
        instance_id = start_one(desk)
        wait_until(lambda: is_ready(desk, instance_id))
        run_dir = desk.run_dir
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
    assert not run_dir.exists()


def test_the_stack_is_what_is_rehearsed_unless_told_otherwise() -> None:
    with Desk(Options(control_plane=False, idle_seconds=7)) as desk:
        for model in models_of_stack():
            key = {"name": {"S": CONFIGURED + str(model["name"])}}
            row = desk.account.row("diogenes-desk-models", key)
            assert row is not None
            assert row["config"] == {**model, "idleTimeout": 7}


def test_a_control_plane_that_does_not_start_says_why() -> None:
    options = Options(environment={"DIOGENES_PORT_OF_CALL": "Corinth"}, **QUICK)
    with pytest.raises(DeskFailure, match="DIOGENES_PORT_OF_CALL is not a setting"), Desk(options):
        pytest.fail("it started")


def test_an_unknown_fault_is_refused(nodes_only: Desk) -> None:
    with pytest.raises(UnknownFault, match="known are"):
        nodes_only.add_fault(kill="everything")


def test_the_variables_of_make_run_are_understood() -> None:
    options = options_from({"PORT": "0", "BOOT_SECONDS": "0.5", "IDLE_SECONDS": "9", "LOAD_SECONDS": "", "FAULTS": ""})
    assert (options.port, options.boot_seconds, options.idle_seconds, options.load_seconds) == (0, 0.5, 9, 5.0)
    assert options.faults is None


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        *[(name, text, "seconds, zero or more") for name in SECONDS for text in ("-1", "nan", "inf", "soon")],
        *[("IDLE_SECONDS", text, "a whole number from 1 to 86400") for text in ("0", "-5", "2.5", "nan", "86401")],
        *[("PORT", text, "a whole number from 0 to 65535") for text in ("eighty", "-1", "65536", "80.5")],
        ("ENGINE", "llama", "one of builtin, vllm"),
        ("FAULTS", "/no/such/file.yaml", "No such file"),
        ("FAULTS", "/", "Is a directory"),
    ],
)
def test_an_odd_variable_is_one_line_and_status_2_and_nothing_starts(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert main() == 2
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith(f"rehearsal: {name}={value}: ")
    assert says in line


@pytest.mark.parametrize("text", ["- explode: now", "- [", "- {kill: engine, phase: asleep}"])
def test_faults_that_cannot_be_understood_are_one_line_too(text: str, tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^FAULTS={path}: [^\n]+$"):
        options_from({"FAULTS": str(path)})


def test_the_streams_of_a_desk_have_five_seconds_to_end_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    with Desk(Options(control_plane=False, models=MODELS)) as desk:
        assert desk.stop_timeout_s == 5
    monkeypatch.setenv("DIOGENES_STOP_TIMEOUT_S", "40")
    with Desk(Options(control_plane=False, models=MODELS)) as desk:
        assert desk.stop_timeout_s == 40


@pytest.mark.desk
def test_a_question_brings_up_a_node_and_is_answered() -> None:
    with Desk(Options(**QUICK)) as desk, openai.OpenAI(base_url=desk.base_url, api_key=desk.api_key) as client:
        assert desk.instances() == {}
        answer = client.chat.completions.create(model="org/small", messages=[{"role": "user", "content": "Hello"}])
        assert answer.choices[0].message.content
        assert len(desk.instances()[GROUP]) == 1
        desk.kill_control_plane()
        assert len(desk.instances()[GROUP]) == 1
        desk.start_control_plane()
        again = client.chat.completions.create(model="org/small", messages=[{"role": "user", "content": "Hello"}])
        assert again.choices[0].message.content
        assert desk.calls()["autoscaling:LaunchInstances"] == 1
        assert desk.denied() == []
        assert "autoscaling:LaunchInstances" in desk.used("diogenes-desk-task")


@pytest.mark.desk
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_program_says_when_it_is_ready_and_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PORT": "0"}
    program = [sys.executable, "-m", "rehearsal"]
    with subprocess.Popen(program, cwd=HOME, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as rehearsal:
        assert rehearsal.stdout is not None
        try:
            line = next(line for line in rehearsal.stdout if line.startswith(b"DIOGENES_READY ")).decode()
            words = dict(word.split("=", 1) for word in line.split()[1:])
            with openai.OpenAI(base_url=words["base_url"], api_key=words["api_key"]) as client:
                assert client.models.list().data  # by the night watch: nothing else runs yet
            below = psutil.Process(rehearsal.pid).children(recursive=True)
            assert below
        finally:
            rehearsal.send_signal(number)
            status = rehearsal.wait(20)
    assert words["base_url"].startswith("http://127.0.0.1:")
    assert words["api_key"].startswith("dio-")
    assert status == (-signal.SIGKILL if number is signal.SIGKILL else 0)
    _, alive = psutil.wait_procs(below, timeout=15)
    assert alive == []
