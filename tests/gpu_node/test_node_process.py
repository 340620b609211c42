"""The real agent with a real engine process, in front of an emulated AWS."""

from __future__ import annotations

import json
import time

from tests.gpu_node.process import StartNode, is_dead, wait_for


def test_a_node_gets_ready_serves_and_goes_when_its_lease_ends(start_node: StartNode) -> None:
    node = start_node()
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


def test_a_failed_start_leaves_its_reason_and_goes(start_node: StartNode) -> None:
    node = start_node(REHEARSAL_BOOT_FAILURE="out_of_gpu_memory")
    assert node.process.wait(20) == 1
    row = node.account.row
    assert (row["status"], row["error"]["code"], row["error"]["permanent"]) == ("failed", "out_of_gpu_memory", True)
    assert any("CUDA out of memory" in line for line in row["log_tail"])
    assert node.account.desired == 0


def test_a_termination_stops_the_engine_and_leaves_the_group_alone(start_node: StartNode) -> None:
    node = start_node()
    node.reaches("ready")
    engine = node.engine
    node.process.terminate()
    assert node.process.wait(20) == 0
    assert is_dead(engine)
    assert node.account.desired == 1


def test_a_node_that_its_group_takes_down_drains_and_goes_by_itself(start_node: StartNode) -> None:
    node = start_node(DIOGENES_NODE_NOTICE_S="0.5")
    node.reaches("ready")
    engine = node.engine
    node.metadata["autoscaling/target-lifecycle-state"] = "Terminated"
    assert node.process.wait(20) == 0
    row = node.account.row
    assert (row["status"], row["reason"]) == ("draining", "its group takes it down")
    assert row["draining_since"] >= row["ready_at"]
    assert is_dead(engine)


def test_a_killed_engine_fails_the_node(start_node: StartNode) -> None:
    node = start_node()
    node.reaches("ready")
    node.engine.kill()
    assert node.process.wait(20) == 1
    assert node.account.row["error"]["code"] == "engine_crashed"


def test_a_killed_agent_takes_its_engine_along(start_node: StartNode) -> None:
    node = start_node()
    node.reaches("ready")
    engine = node.engine
    node.process.kill()
    wait_for(lambda: is_dead(engine))


def test_settings_that_cannot_be_used_are_all_listed(start_node: StartNode) -> None:
    node = start_node(DIOGENES_NODE_MODEL="", DIOGENES_NODE_POLL_S="soon", DIOGENES_NODE_COLOUR="red")
    assert node.process.wait(20) == 2
    problems = json.loads(node.log.read_text())["problems"]
    assert all(name in problems for name in ("MODEL is missing", "POLL_S must be a number", "COLOUR is not a setting"))
