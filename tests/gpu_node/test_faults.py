"""The third guard under fault injection: whatever is taken from a node, the real agent and its engine are gone in time.

What ends the machine is the end of the agent, so that is what is waited for; each bound is that of the settings with
which the node was started, and what its last calls take. A clock cannot be set for one process alone: Python's own is
moved in the agent's; the kernel's, by which it counts, is left as it is.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.gpu_node.gate import gate
from tests.gpu_node.ground import network, small_disk
from tests.gpu_node.process import Node, StartNode, is_dead, wait_for

LAST_CALLS_S = 60.0  # reports, and tries to leave the group, each tried again by the SDK
BLIND_S = "2"


@contextmanager
def gone_within(node: Node, seconds: float) -> Iterator[psutil.Process]:
    """The agent ends by itself in that time from the fault on, and leaves nothing of its engine."""
    engine = node.engine
    family = [engine, *engine.children(recursive=True)]
    yield engine
    began = time.monotonic()
    node.process.wait(seconds + LAST_CALLS_S)
    assert time.monotonic() - began <= seconds + LAST_CALLS_S
    wait_for(lambda: all(map(is_dead, family)), within_s=5)


def test_a_control_plane_that_is_gone(start_node: StartNode) -> None:
    node = start_node()
    node.reaches("ready")
    with gone_within(node, 8.0):
        node.account.change(lease_until=time.time() + 1.0)  # the last renewal ever
    assert node.account.desired == 0
    assert node.account.row["status"] == "draining"  # out of routing before the engine stopped


def test_a_control_plane_that_is_gone_while_the_engine_loads(start_node: StartNode) -> None:
    node = start_node(REHEARSAL_LOAD_SECONDS="600")
    node.reaches("booting")
    wait_for(lambda: len(psutil.Process(node.process.pid).children()) == 1)
    with gone_within(node, 8.0):
        node.account.change(lease_until=time.time() + 1.0)
    assert node.account.desired == 0


def test_a_table_that_is_gone(start_node: StartNode) -> None:
    node = start_node(DIOGENES_NODE_BLIND_LIMIT_S=BLIND_S)
    node.reaches("ready")
    with gone_within(node, 4.0):
        node.account.dynamo.delete_table(TableName="instances")
    assert node.account.desired == 0
    assert "the table cannot be read" in node.log.read_text()


def test_a_table_that_is_denied(start_node: StartNode) -> None:
    with gate() as account:
        node = start_node(reach=account.reach, DIOGENES_NODE_BLIND_LIMIT_S=BLIND_S)
        node.reaches("ready")
        with gone_within(node, 4.0):
            account.denied = "DynamoDB"
        assert account.refused
    assert node.account.desired == 0
    assert "AccessDeniedException" in node.log.read_text()


def test_an_engine_that_died_while_the_table_is_denied(start_node: StartNode) -> None:
    with gate() as account:
        node = start_node(reach=account.reach, DIOGENES_NODE_NOTICE_S="2")  # and ten minutes for a node that serves
        node.reaches("ready")
        with gone_within(node, 4.0) as engine:
            account.denied = "DynamoDB"
            wait_for(lambda: account.refused)
            engine.kill()
    assert node.process.returncode == 1
    assert node.account.desired == 0


def test_a_clock_that_jumps(start_node: StartNode, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(MOVES_THE_CLOCK)
    moved = tmp_path / "moved"
    moved.write_text("0")
    node = start_node(
        PYTHONPATH=os.pathsep.join([str(tmp_path), os.getcwd()]), MOVED=str(moved), DIOGENES_NODE_NOTICE_S="1"
    )
    node.reaches("ready")
    with gone_within(node, 4.0):
        moved.write_text("-3600")
    assert node.account.row["reason"] == "its clock jumped by -3600 s"
    assert node.account.desired == 0


def test_a_network_that_is_cut(start_node: StartNode) -> None:
    with network() as net:
        node = start_node(prefix=net.prefix, reach=net.reach, address="127.0.0.1", DIOGENES_NODE_BLIND_LIMIT_S=BLIND_S)
        node.reaches("ready")
        with gone_within(node, 4.0):
            net.cut()
    assert node.process.returncode == 0
    assert node.account.desired == 1  # it could tell nobody: its machine goes off, and the control plane sees that
    assert "could not leave the group" in node.messages


def test_an_engine_that_hangs(start_node: StartNode) -> None:
    node = start_node(DIOGENES_NODE_SUSPECT_AFTER_S="1", DIOGENES_NODE_PROBE_LIMIT_S="1")
    node.reaches("ready")
    asking = http.client.HTTPConnection(node.metadata["local-ipv4"], 8000, timeout=60)
    with gone_within(node, 12.0):
        body = json.dumps({"prompt": "Hello [[hang]]"})
        asking.request("POST", "/v1/completions", body, {"content-type": "application/json"})
    asking.close()
    row = node.account.row
    assert (row["status"], row["error"]["code"]) == ("failed", "engine_hung")
    assert node.account.desired == 0


def test_a_long_answer_is_no_hang(start_node: StartNode) -> None:
    node = start_node(DIOGENES_NODE_SUSPECT_AFTER_S="0.5", DIOGENES_NODE_PROBE_LIMIT_S="5")
    node.reaches("ready")
    asking = http.client.HTTPConnection(node.metadata["local-ipv4"], 8000, timeout=60)
    body = json.dumps({"prompt": "Hello [[tokens=3 gap=1]]"})
    asking.request("POST", "/v1/completions", body, {"content-type": "application/json"})
    with closing(asking), asking.getresponse() as answer:
        assert answer.status == 200
    assert "engine cleared of suspicion" in node.messages
    assert node.process.poll() is None


MOVES_THE_CLOCK = """
import os, time
real = time.time
def moved():
    with open(os.environ["MOVED"]) as by:
        return real() + float(by.read() or 0)
time.time = moved
"""

FILLS_THE_DISK = """
import os, sys
print("(EngineCore pid=1) INFO [gpu_model_runner.py:5040] Starting to load model", flush=True)
with open(os.path.join(os.environ["HF_HOME"], "model.safetensors"), "wb") as weights:
    while True:
        weights.write(b"0" * 65536)
"""


def test_a_disk_that_is_full(start_node: StartNode, tmp_path: Path) -> None:
    (tmp_path / "fills.py").write_text(FILLS_THE_DISK)
    with small_disk(tmp_path / "disk") as disk:
        engine = shlex.join([sys.executable, str(tmp_path / "fills.py")])
        node = start_node(DIOGENES_NODE_ENGINE=engine, HF_HOME=str(disk))
        assert node.process.wait(LAST_CALLS_S) == 1
    row = node.account.row
    assert (row["status"], row["error"]["code"]) == ("failed", "disk_full")
    assert "No space left on device" in row["error"]["cause"]
    assert node.account.desired == 0


def test_a_lifetime_that_is_over(start_node: StartNode) -> None:
    node = start_node(DIOGENES_NODE_MAX_LIFETIME_S="6", DIOGENES_NODE_NOTICE_S="1")
    node.reaches("ready")
    with gone_within(node, 6.0):
        node.reaches("draining")
    assert node.account.row["reason"] == "its lifetime is nearly over"
    assert node.account.desired == 0


@pytest.mark.parametrize("stage", ["loading", "ready"])
def test_an_agent_that_is_killed_takes_its_engine_along(start_node: StartNode, stage: str) -> None:
    node = start_node(REHEARSAL_LOAD_SECONDS="600" if stage == "loading" else "0.3")
    node.reaches("booting" if stage == "loading" else "ready")
    wait_for(lambda: psutil.Process(node.process.pid).children())
    engine = node.engine
    node.process.kill()
    wait_for(lambda: is_dead(engine))
