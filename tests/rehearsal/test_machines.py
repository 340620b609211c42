"""A machine lives from launch to termination, suffers what it is told to, and leaves no process behind."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from rehearsal.birth import birth
from rehearsal.ec2 import HOME, MachineOptions, Machines
from rehearsal.groups import Member
from tests.rehearsal.conftest import NAMESPACE, SMALL, Cloud

# Stands in for the agent: tells its environment, and starts an engine that hides in a session of its own.
AGENT = """
import json, os, signal, subprocess, sys, time
marker = os.environ["REHEARSAL_MARKER"]
engine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", marker], start_new_session=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN if os.environ.get("REHEARSAL_STUBBORN") else signal.SIG_DFL)
print(json.dumps(dict(os.environ)), flush=True)
engine.wait()
time.sleep(600)
"""


def wait_until(what: Callable[[], bool], limit_s: float = 15.0) -> None:
    limit = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.02)


def marked(marker: str) -> list[psutil.Process]:
    """Every living process that carries the marker in its environment or command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if marker in process.cmdline() or marker in process.environ().values():
                found.append(process)
        except psutil.Error:
            continue
    return found


class Yard:
    """Machines of one account, stepped by hand; boot after 10 s of a clock that only the test moves."""

    def __init__(self, cloud: Cloud, run_dir: Path, **env: str) -> None:
        self.cloud = cloud
        self.group = SMALL  # that is launched into
        self.now = 100.0
        self.told: list[str] = []
        self.marker = f"marker-{os.getpid()}-{run_dir.name}"
        options = MachineOptions(
            namespace=NAMESPACE,
            boot_s=10.0,
            command=[sys.executable, "-c", AGENT],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(HOME), "REHEARSAL_MARKER": self.marker, **env},
            run_dir=run_dir,
            grace_s=0.5,
            birth=partial(birth, cloud.account),
        )
        self.machines = Machines(
            cloud.account, options, faults=cloud.faults, clock=lambda: self.now, tell=self.told.append
        )

    def launch(self) -> str:
        (instance_id,) = self.cloud.launch(AutoScalingGroupName=self.group)["Instances"][0]["InstanceIds"]
        self.machines.step()
        return str(instance_id)

    def boot(self) -> str:
        """A machine whose agent runs and has an engine."""
        instance_id = self.launch()
        self.now += 10.0
        self.machines.step()
        wait_until(lambda: self.machines.log_of(instance_id).read_text().endswith("\n"))
        return instance_id

    def agent_env(self, instance_id: str) -> dict[str, str]:
        env: dict[str, str] = json.loads(self.machines.log_of(instance_id).read_text())
        return env

    def member(self, instance_id: str) -> Member:
        return self.cloud.member(instance_id)

    def settle(self) -> None:
        """Step until every machine is gone."""

        def gone() -> bool:
            self.machines.step()
            words = [line.split()[1] for line in self.told]
            # The keeper of a tree ends a moment after the tree.
            return not marked(self.marker) and words.count("terminated:") == words.count("launched:")

        wait_until(gone)


@pytest.fixture
def yard(cloud: Cloud, tmp_path: Path) -> Iterator[Yard]:
    yard = Yard(cloud, tmp_path)
    yield yard
    yard.machines.close()
    assert marked(yard.marker) == []


def state_of(yard: Yard, instance_id: str) -> tuple[str, str]:
    (instance,) = yard.cloud.group()["Instances"]
    assert instance["InstanceId"] == instance_id
    return instance["LifecycleState"], instance["HealthStatus"]


def ask(metadata: str, path: str, *, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Of an instance's metadata service."""
    connection = http.client.HTTPConnection(metadata.removeprefix("http://"), timeout=5)
    connection.request(method, f"/latest/{path}", headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def metadata_token(metadata: str) -> str:
    status, token = ask(metadata, "api/token", method="PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
    assert status == 200
    return token


def target_state(yard: Yard, instance_id: str) -> str:
    """What the instance can learn of its group's wish."""
    metadata = yard.agent_env(instance_id)["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    path = "meta-data/autoscaling/target-lifecycle-state"
    return ask(metadata, path, X_aws_ec2_metadata_token=metadata_token(metadata))[1]


def test_an_instance_boots_after_its_time_and_not_before(yard: Yard) -> None:
    instance_id = yard.launch()
    yard.now += 9.9
    yard.machines.step()
    assert state_of(yard, instance_id) == ("Pending", "Healthy")
    yard.now += 0.1
    yard.machines.step()
    assert state_of(yard, instance_id) == ("InService", "Healthy")
    assert [line.split()[1] for line in yard.told] == ["launched:", "booted"]


def test_the_agent_learns_who_it_is_from_its_environment_and_its_metadata(yard: Yard) -> None:
    instance_id = yard.boot()
    env = yard.agent_env(instance_id)
    assert (env["DIOGENES_NODE_MODEL"], env["DIOGENES_NODE_GROUP"]) == ("org/small", SMALL)
    metadata = env["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    token = metadata_token(metadata)
    facts = {
        path: ask(metadata, f"meta-data/{path}", X_aws_ec2_metadata_token=token)[1]
        for path in (
            "instance-id",
            "local-ipv4",
            "placement/availability-zone",
            "instance-type",
            "instance-life-cycle",
        )
    }
    assert facts == {
        "instance-id": instance_id,
        "local-ipv4": metadata.split("/")[2].split(":")[0],
        "placement/availability-zone": "us-east-1a",
        "instance-type": "g5.xlarge",
        "instance-life-cycle": "on-demand",
    }
    assert ask(metadata, "meta-data/instance-id") == (401, "")
    assert ask(metadata, "meta-data/spot/instance-action", X_aws_ec2_metadata_token=token) == (404, "")


def test_an_instance_gets_the_credentials_of_its_models_role_from_its_metadata_and_nowhere_else(yard: Yard) -> None:
    env = yard.agent_env(yard.boot())
    assert not [name for name in env if name.startswith(("AWS_ACCESS", "AWS_SECRET", "AWS_SESSION"))]
    metadata = env["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    token = metadata_token(metadata)
    role = f"{NAMESPACE}-org-small-node"
    path = "meta-data/iam/security-credentials/"
    assert ask(metadata, path, X_aws_ec2_metadata_token=token) == (200, role)
    told = json.loads(ask(metadata, path + role, X_aws_ec2_metadata_token=token)[1])
    assert told["AccessKeyId"].startswith("ASIA")
    assert told["Expiration"] > told["LastUpdated"]
    assert ask(metadata, path + "another", X_aws_ec2_metadata_token=token) == (404, "")
    assert ask(metadata, path) == (401, "")


def test_a_machine_whose_agent_ends_powers_off_and_stays_listed_as_unhealthy(yard: Yard) -> None:
    instance_id = yard.boot()
    yard.machines.tree(instance_id).signal(signal.SIGKILL)
    yard.settle()
    assert state_of(yard, instance_id) == ("InService", "Unhealthy")
    assert not yard.member(instance_id).alive
    assert "powered off by itself" in yard.told[-1]


def test_a_terminated_instance_takes_its_whole_tree_along(yard: Yard) -> None:
    yard.cloud.drop_hook()
    instance_id = yard.boot()
    assert len(marked(yard.marker)) >= 2
    yard.cloud.client("autoscaling").terminate_instance_in_auto_scaling_group(
        InstanceId=instance_id, ShouldDecrementDesiredCapacity=True
    )
    yard.settle()
    assert "by request" in yard.told[-1]


def test_an_instance_terminated_before_it_boots_never_starts_its_agent(yard: Yard) -> None:
    yard.cloud.drop_hook()
    instance_id = yard.launch()
    yard.cloud.client("autoscaling").terminate_instance_in_auto_scaling_group(
        InstanceId=instance_id, ShouldDecrementDesiredCapacity=True
    )
    yard.now += 60.0
    yard.machines.step()
    assert marked(yard.marker) == []
    assert not yard.machines.log_of(instance_id).exists()


def test_a_held_instance_runs_on_knows_it_and_ends_when_it_is_released(yard: Yard) -> None:
    instance_id = yard.boot()
    assert target_state(yard, instance_id) == "InService"
    yard.cloud.terminate(instance_id)
    yard.now += 600.0
    for _ in range(3):
        yard.machines.step()
    assert target_state(yard, instance_id) == "Terminated"
    assert not yard.machines.tree(instance_id).exited
    assert state_of(yard, instance_id) == ("Terminating:Wait", "Healthy")
    yard.cloud.complete(instance_id)
    yard.settle()
    assert [line.split()[1] for line in yard.told] == ["launched:", "booted", "shall", "terminated:"]
    assert "by request" in yard.told[-1]


def test_a_held_instance_that_powers_off_by_itself_keeps_its_group_waiting(yard: Yard) -> None:
    instance_id = yard.boot()
    yard.cloud.terminate(instance_id)
    yard.machines.step()
    yard.machines.tree(instance_id).signal(signal.SIGKILL)
    yard.settle()
    assert state_of(yard, instance_id) == ("Terminating:Wait", "Unhealthy")
    yard.cloud.complete(instance_id)
    assert yard.cloud.group()["Instances"] == []


def test_an_instance_that_is_held_before_it_boots_boots_all_the_same(yard: Yard) -> None:
    instance_id = yard.launch()
    yard.cloud.terminate(instance_id)
    yard.now += 10.0
    yard.machines.step()
    yard.machines.step()
    wait_until(lambda: yard.machines.log_of(instance_id).read_text().endswith("\n"))
    assert target_state(yard, instance_id) == "Terminated"
    assert state_of(yard, instance_id) == ("Terminating:Wait", "Healthy")


def test_killing_the_engine_leaves_the_agent(yard: Yard) -> None:
    instance_id = yard.boot()
    tree = yard.machines.tree(instance_id)
    assert tree.kill_below_leader() == 1
    assert not tree.exited
    assert psutil.pid_exists(tree.leader)


def test_a_machine_that_loses_its_power_is_gone_at_once(yard: Yard) -> None:
    instance_id = yard.boot()
    yard.machines.cut_power(instance_id)
    assert not yard.member(instance_id).alive
    yard.settle()
    assert "lost its power" in yard.told[-1]


def test_an_instance_that_never_boots_stays_pending(yard: Yard) -> None:
    yard.cloud.add_fault(never_boots=True)
    instance_id = yard.launch()
    yard.now += 600.0
    yard.machines.step()
    assert state_of(yard, instance_id) == ("Pending", "Healthy")
    assert marked(yard.marker) == []


def test_a_boot_failure_is_handed_to_the_machine_once(yard: Yard) -> None:
    yard.cloud.add_fault(boot_failure="gated_model", model="org/small")
    first = yard.boot()
    assert yard.agent_env(first)["REHEARSAL_BOOT_FAILURE"] == "gated_model"
    yard.machines.cut_power(first)
    (second,) = yard.cloud.launch(ClientToken="token-2")["Instances"][0]["InstanceIds"]
    yard.machines.step()
    yard.now += 10.0
    yard.machines.step()
    wait_until(lambda: yard.machines.log_of(second).read_text().endswith("\n"))
    assert "REHEARSAL_BOOT_FAILURE" not in yard.agent_env(second)


def test_a_kill_strikes_at_its_time_once_a_machine(yard: Yard) -> None:
    yard.cloud.add_fault(kill="engine", after_s=30, times=2)
    instance_id = yard.boot()
    tree = yard.machines.tree(instance_id)
    yard.now += 19.9
    yard.machines.step()
    assert len(psutil.Process(tree.leader).children()) == 1
    yard.now += 0.2
    yard.machines.step()
    yard.machines.step()
    assert [line for line in yard.told if "suffers" in line] == [f"{instance_id} suffers: kill engine"]
    assert len(yard.cloud.faults.pending("kill")) == 1


def test_a_kill_can_wait_for_the_node_to_be_ready(yard: Yard) -> None:
    yard.cloud.add_fault(kill="instance", phase="ready")
    instance_id = yard.boot()
    yard.machines.step()
    assert yard.member(instance_id).alive
    yard.cloud.client("dynamodb").put_item(
        TableName=f"{NAMESPACE}-instances", Item={"instance_id": {"S": instance_id}, "status": {"S": "ready"}}
    )
    yard.machines.step()
    assert not yard.member(instance_id).alive


def test_a_stubborn_agent_is_killed_after_the_grace(cloud: Cloud, tmp_path: Path) -> None:
    yard = Yard(cloud, tmp_path, REHEARSAL_STUBBORN="1")
    yard.boot()
    yard.machines.close()
    assert marked(yard.marker) == []


# A rehearsal without a control plane: one machine of the stand-in agent, then it waits to be killed.
REHEARSAL = """
import sys, time
import boto3
from rehearsal.desk import Desk, Options
models = [{"name": "org/small", "instanceTypes": ["g5.xlarge"]}]
agent = (sys.executable, "-c", sys.argv[1])
with Desk(Options(boot_seconds=0.0, models=models, control_plane=False, agent=agent)) as desk:
    autoscaling = boto3.client("autoscaling", endpoint_url=desk.aws_url)
    autoscaling.set_desired_capacity(AutoScalingGroupName="diogenes-desk-org-small-on-demand", DesiredCapacity=1)
    print("up", flush=True)
    time.sleep(600)
"""


def test_nothing_is_left_when_the_rehearsal_itself_is_killed(tmp_path: Path) -> None:
    marker = f"marker-{os.getpid()}-{tmp_path.name}-killed"
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(HOME),
        "TMPDIR": str(tmp_path),
        "REHEARSAL_MARKER": marker,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "desk",
        "AWS_SECRET_ACCESS_KEY": "desk",
    }
    with subprocess.Popen([sys.executable, "-c", REHEARSAL, AGENT], env=env, stdout=subprocess.PIPE) as rehearsal:
        try:
            assert rehearsal.stdout is not None
            assert rehearsal.stdout.readline() == b"up\n"
            # the rehearsal, a keeper, the agent, its engine
            wait_until(lambda: len(marked(marker)) == 4)
        finally:
            rehearsal.kill()
    wait_until(lambda: not marked(marker))
