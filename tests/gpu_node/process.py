"""An agent as a process, in front of an emulated AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import boto3
import psutil

from gpu_node.protocol import from_attributes, to_attributes
from tests.gpu_node.account import REGION, make_tables, one_instance_group

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
        make_tables(self.dynamo)
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


class StartNode(Protocol):
    """Starts one. ``prefix`` runs it, in another place for one; ``reach`` turns the address of a service of this
    process into one at which the node reaches it; ``environ`` are more variables of the agent."""

    def __call__(
        self, *, prefix: Sequence[str] = (), reach: Callable[[str], str] = str, address: str = "", **environ: str
    ) -> Node: ...


@contextmanager
def starting(metadata_service: Service, aws_endpoint: str, folder: Path) -> Iterator[StartNode]:
    with ExitStack() as stack:
        account = Account(aws_endpoint)
        facts = {
            "instance-id": account.instance_id,
            "local-ipv4": f"127.{os.getpid() % 200 + 30}.{os.getpid() // 200 % 250}.200",
            "placement/availability-zone": f"{REGION}a",
            "instance-type": "g5.xlarge",
            "instance-life-cycle": "spot",
            "autoscaling/target-lifecycle-state": "InService",
        }
        metadata = stack.enter_context(metadata_service(facts))

        def begin(
            *, prefix: Sequence[str] = (), reach: Callable[[str], str] = str, address: str = "", **environ: str
        ) -> Node:
            log = folder / "node.log"
            facts["local-ipv4"] = address or facts["local-ipv4"]
            settings = {
                "AWS_ENDPOINT_URL": reach(account.endpoint),
                "AWS_REGION": REGION,
                "AWS_EC2_METADATA_SERVICE_ENDPOINT": reach(metadata),
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
                    [*prefix, sys.executable, "-m", "gpu_node"],
                    stdout=output,
                    env={**os.environ, **settings, **environ},
                    text=True,
                )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return Node(process, account, log, facts)

        yield begin
