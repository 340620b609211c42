"""The real agent with a real engine process, in front of an emulated AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from gpu_node.protocol import from_attributes, to_attributes
from tests.gpu_node.account import REGION, one_instance_group

Service = Callable[[dict[str, str]], AbstractContextManager[str]]


def wait_for(condition: Callable[[], object], *, within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.05)


def is_dead(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Account:
    """The tables, and one Auto Scaling group with one instance."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.dynamo = boto3.client("dynamodb", region_name=REGION, endpoint_url=endpoint)
        self.scaling = boto3.client("autoscaling", region_name=REGION, endpoint_url=endpoint)
        for table, key in (("instances", "instance_id"), ("models", "name")):
            self.dynamo.create_table(
                TableName=table,
                KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        config = {"name": "tiny", "repository": "org/tiny", "vllmArgs": "--max-model-len 4096"}
        self.dynamo.put_item(TableName="models", Item=to_attributes({"name": "tiny", "config": config}))
        self.instance_id = one_instance_group(endpoint, self.scaling)

    @property
    def desired(self) -> int:
        (group,) = self.scaling.describe_auto_scaling_groups()["AutoScalingGroups"]
        return int(group["DesiredCapacity"])

    @property
    def row(self) -> Mapping[str, Any]:
        answer = self.dynamo.get_item(TableName="instances", Key={"instance_id": {"S": self.instance_id}})
        return from_attributes(answer.get("Item", {}))

    def change(self, **attributes: Any) -> None:
        self.dynamo.update_item(
            TableName="instances",
            Key={"instance_id": {"S": self.instance_id}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            ExpressionAttributeNames={f"#{name}": name for name in attributes},
            ExpressionAttributeValues=to_attributes({f":{name}": value for name, value in attributes.items()}),
        )


@dataclass(frozen=True)
class Node:
    """One agent process."""

    process: subprocess.Popen[str]
    account: Account
    log: Path
    metadata: dict[str, str]  # what the metadata service answers

    @property
    def engine(self) -> psutil.Process:
        (engine,) = psutil.Process(self.process.pid).children()
        return engine

    @property
    def messages(self) -> list[str]:
        return [json.loads(line)["message"] for line in self.log.read_text().splitlines()]

    def reaches(self, state: str) -> None:
        wait_for(lambda: self.account.row.get("status") == state)


@pytest.fixture
def start(metadata_service: Service, aws_endpoint: str, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    with ExitStack() as stack:
        account = Account(aws_endpoint)
        address = f"127.{os.getpid() % 200 + 30}.{os.getpid() // 200 % 250}.200"
        facts = {
            "instance-id": account.instance_id,
            "local-ipv4": address,
            "placement/availability-zone": f"{REGION}a",
            "instance-type": "g5.xlarge",
            "instance-life-cycle": "spot",
            "autoscaling/target-lifecycle-state": "InService",
        }
        metadata = stack.enter_context(metadata_service(facts))

        def begin(**environ: str) -> Node:
            log = tmp_path / "node.log"
            settings = {
                "AWS_ENDPOINT_URL": account.endpoint,
                "AWS_REGION": REGION,
                "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata,
                "DIOGENES_NODE_MODEL": "tiny",
                "DIOGENES_NODE_INSTANCES_TABLE": "instances",
                "DIOGENES_NODE_MODELS_TABLE": "models",
                "DIOGENES_NODE_GROUP": "group-1",
                "DIOGENES_NODE_ENGINE": f"{sys.executable} -m rehearsal.engine",
                "DIOGENES_NODE_DRIVER_CHECK": "0",
                "DIOGENES_NODE_HEARTBEAT_S": "0.3",
                "DIOGENES_NODE_POLL_S": "0.1",
                "REHEARSAL_LOAD_SECONDS": "0.5",
            }
            with log.open("w") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "gpu_node"],
                    stdout=output,
                    env={**os.environ, **settings, **environ},
                    text=True,
                )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return Node(process, account, log, facts)

        yield begin


def test_a_node_gets_ready_serves_and_goes_when_its_lease_ends(start: Callable[..., Node]) -> None:
    node = start()
    node.reaches("ready")
    row = node.account.row
    assert [record["phase"] for record in row["phases"]][:2] == ["instance", "engine-install"]
    assert (row["market"], row["group"], row["log_tail"], row["error"]) == ("spot", "group-1", [], None)
    assert row["ready_at"] >= row["launched_at"]
    engine = node.engine
    node.account.change(lease_until=time.time() - 60)
    assert node.process.wait(20) == 0
    assert is_dead(engine)
    assert node.account.desired == 0
    assert "node halts" in node.messages


def test_a_failed_start_leaves_its_reason_and_goes(start: Callable[..., Node]) -> None:
    node = start(REHEARSAL_BOOT_FAILURE="out_of_gpu_memory")
    assert node.process.wait(20) == 1
    row = node.account.row
    assert (row["status"], row["error"]["code"], row["error"]["permanent"]) == ("failed", "out_of_gpu_memory", True)
    assert any("CUDA out of memory" in line for line in row["log_tail"])
    assert node.account.desired == 0


def test_a_termination_stops_the_engine_and_leaves_the_group_alone(start: Callable[..., Node]) -> None:
    node = start()
    node.reaches("ready")
    engine = node.engine
    node.process.terminate()
    assert node.process.wait(20) == 0
    assert is_dead(engine)
    assert node.account.desired == 1


def test_a_node_that_its_group_takes_down_drains_and_goes_by_itself(start: Callable[..., Node]) -> None:
    node = start(DIOGENES_NODE_NOTICE_S="0.5")
    node.reaches("ready")
    engine = node.engine
    node.metadata["autoscaling/target-lifecycle-state"] = "Terminated"
    assert node.process.wait(20) == 0
    row = node.account.row
    assert (row["status"], row["reason"]) == ("draining", "its group takes it down")
    assert row["draining_since"] >= row["ready_at"]
    assert is_dead(engine)


def test_a_killed_engine_fails_the_node(start: Callable[..., Node]) -> None:
    node = start()
    node.reaches("ready")
    node.engine.kill()
    assert node.process.wait(20) == 1
    assert node.account.row["error"]["code"] == "engine_crashed"


def test_a_killed_agent_takes_its_engine_along(start: Callable[..., Node]) -> None:
    node = start()
    node.reaches("ready")
    engine = node.engine
    node.process.kill()
    wait_for(lambda: is_dead(engine))


def test_settings_that_cannot_be_used_are_all_listed(start: Callable[..., Node]) -> None:
    node = start(DIOGENES_NODE_MODEL="", DIOGENES_NODE_POLL_S="soon", DIOGENES_NODE_COLOUR="red")
    assert node.process.wait(20) == 2
    problems = json.loads(node.log.read_text())["problems"]
    assert all(name in problems for name in ("MODEL is missing", "POLL_S must be a number", "COLOUR is not a setting"))
