"""How starts of the real vLLM are told, from its own log lines: phase by phase, or why there is none."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from concurrent.futures import Future

import pytest

from gpu_node.engine import Load
from tests.desk.story import Answer, Story, until
from tests.vllm.serving import MODEL, REFUSED, Boot, Serving

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

ROAD = ["instance", "engine-install", "weights", "load", "warmup"]


def test_its_phases_are_entered_in_their_order(serving: Serving) -> None:
    phases = serving.story.row(serving.node)["phases"]
    assert [record["phase"] for record in phases] == ROAD
    begun = [record["started_at"] for record in phases]
    assert begun == sorted(begun)


def test_the_api_tells_of_them_and_shows_the_engines_own_lines_meanwhile(boot: Boot) -> None:
    # A phase that is over before the next heartbeat may be missing; none may come out of turn.
    assert {"engine-install"} <= set(boot.seen) <= {"launch", *ROAD}
    assert [phase for phase in ROAD if phase in boot.seen] == [phase for phase in boot.seen if phase in ROAD]
    log = "\n".join(boot.log)
    assert re.search(r"version 0\.\d+\.\d+", log)
    assert "Starting to load model org/tiny" in log
    assert re.search(r"Loading weights took [\d.]+ seconds", log)


async def test_nothing_of_its_log_is_kept_once_it_answers(serving: Serving) -> None:
    (node,) = (await serving.story.status(MODEL))["instances"]
    assert node["log_tail"] == []


def test_who_waits_is_told_of_them_and_then_answered(boot: Boot) -> None:
    comments = re.findall(rb"^: diogenes model=vllm/serving phase=([a-z-]+)", boot.answer, re.MULTILINE)
    assert comments
    assert {phase.decode() for phase in comments} <= {"launch", *ROAD, "generating"}
    assert boot.answer.endswith(b"data: [DONE]\n\n")


def test_an_engine_that_does_nothing_says_so(serving: Serving) -> None:
    assert serving.load() == Load(0, 0)


@pytest.mark.parametrize("model", REFUSED)
async def test_what_cannot_start_is_told_with_its_code(
    story: Story, refusals: Mapping[str, Future[Answer]], model: str
) -> None:
    answer = await asyncio.wrap_future(refusals[model])
    assert (answer.error, answer.status, answer.text) == (REFUSED[model].code, 403, "")
    status = await story.status(model)
    assert (status["status"], status["failure"]["code"]) == ("failed", REFUSED[model].code)
    assert status["failure"]["fix"]
    assert any(REFUSED[model].said in line for line in status["failure_log"])
    assert len(story.launched(model)) == 1
    await until(lambda: not story.alive(model), f"the machine of {model} is gone")
