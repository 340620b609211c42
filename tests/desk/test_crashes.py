"""The control plane's task dies by itself, again and again or once: told with the real SDKs, through a load balancer.

ECS starts the next one, and tells the janitor through EventBridge. Nothing else calls it here, unless a story does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pytest

from control_plane.front import REST_S
from control_plane.schema import CONTROL
from tests.desk.sleep import ENVIRONMENT, FRONT, asleep, faces_night, front_state, no_capacity, tasks
from tests.desk.story import BOUND_S, NAMESPACE, POLL_S, Story, opened, owner, until

pytestmark = [pytest.mark.desk, pytest.mark.timeout(240)]

MODELS = CRASHED, LOOPING = ("crashes/crashed", "crashes/looping")
REMOVAL_S = 4.0  # until then the load balancer believes in a task that died: longer than a janitor's round takes
UNHEARD_OF = "DIOGENES_PORT_OF_CALL"
_EFFECTS = ("ecs:UpdateService", "autoscaling:LaunchInstances", "elasticloadbalancing:ModifyListener")
_DEFINED = (
    *("family", "taskRoleArn", "executionRoleArn", "networkMode", "containerDefinitions"),
    *("requiresCompatibilities", "cpu", "memory", "runtimePlatform"),
)


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    # Idle for longer than a crash takes: the nodes of these stories go because somebody says so.
    environment = {
        **ENVIRONMENT,
        "DIOGENES_CONTROL_PLANE_IDLE_TIMEOUT_S": "1",
        "DIOGENES_PROPAGATION_S": "2",
        "DIOGENES_DRAIN_TIMEOUT_S": "5",  # who takes over believes for longer that somebody else uses a node
    }
    models = [{"name": name, "idleTimeout": 600} for name in MODELS]
    front = replace(FRONT, removal_s=REMOVAL_S, check_interval_s=1.0, janitor_every_s=3600.0)
    with opened(*models, idle_seconds=None, environment=environment, front=front, bound_s=100.0) as story:
        yield story


async def test_a_task_that_never_starts_is_given_up_with_its_reason_until_it_is_mended(story: Story) -> None:
    with redefined(story, {UNHEARD_OF: "Corinth"}):
        refused = await story.ask(LOOPING)
        assert (refused.error, refused.status) == ("control_plane_not_starting", 503)
        assert "Essential container in task exited (exit code 2)." in refused.message
        assert f"aws logs tail /{NAMESPACE}/control-plane" in refused.message
        (shown,) = (line for line in story.told if f"{UNHEARD_OF} is not a setting" in line)
        assert "the control plane ended before it was healthy (exit code 2)" in shown
        assert (front_state(story), faces_night(story)) == ("asleep", True)
        await until(lambda: not tasks(story) and not desired(story), "no task is there, or wanted")

        before = story.desk.calls()
        assert await story.ask(LOOPING) == refused  # at once: nothing is tried
        assert effects(story, before) == {}
        assert await failed_wakes(story) == ["control_plane_not_starting"]
        await asyncio.to_thread(story.desk.front.janitor.invoke, {})  # the schedule comes round
        await until(lambda: "the control plane does not start" in mailed(story), "somebody is told by mail")

    rest_is_over(story)
    answer = await story.ask(LOOPING)
    assert answer.whole, answer
    assert list(story.launched(LOOPING)) == [answer.node]  # beside the first wake, and none since
    await story.scale(LOOPING, 0)


async def test_a_task_that_is_killed_is_turned_away_from_until_the_next_one_answers(story: Story) -> None:
    begun = asyncio.Event()
    streaming = asyncio.create_task(story.ask(CRASHED, "More [[tokens=3000 gap=0.05]]", stream=True, begun=begun))
    await asyncio.wait_for(begun.wait(), BOUND_S)
    node = await story.node(CRASHED)
    (killed,) = story.desk.front.service.tasks
    hops: list[int] = []
    before = len(story.told)
    with no_capacity(story):
        killed.task.kill()
        broken = await streaming
        assert broken.text
        assert broken.error
        await until(lambda: faces_night(story) and front_state(story) == "waking", "it is turned away from")
        called = [line for line in story.told[before:] if line.endswith("the janitor is called")]
        assert [line.split()[3] for line in called] == ["DEPROVISIONING:", "STOPPED:"]  # who came first was too early
        assert tasks(story) == 0
        await asyncio.sleep(FRONT.propagation_s)  # a turn that is still on its way is the desk's own matter
        asking = [asyncio.create_task(story.ask(CRASHED, hops=hops))]
        asking += [asyncio.create_task(story.ask_sync(CRASHED, stream=True))]
        await until(lambda: story.desk.front.night_watch.running == len(asking), "the night watch holds them all")
    answers = await asyncio.gather(*asking)
    assert [answer for answer in answers if not answer.whole] == []
    assert hops[-2:] == [307, 200]
    assert answers[0].node == node
    (task,) = story.desk.front.service.tasks
    assert task is not killed
    assert list(story.launched(CRASHED)) == [node]
    await story.scale(CRASHED, 0)
    await asleep(story)


@contextmanager
def redefined(story: Story, environment: Mapping[str, str]) -> Iterator[None]:
    """The task definition has these variables besides, in a revision of its own; afterwards it is as it was."""
    with owner(story, "ecs") as ecs:
        told = ecs.describe_task_definition(taskDefinition=story.desk.stack.service["name"])["taskDefinition"]
        kept = {name: told[name] for name in _DEFINED if name in told}
        (container,) = kept["containerDefinitions"]
        added = [{"name": name, "value": value} for name, value in environment.items()]
        changed = {**container, "environment": [*container["environment"], *added]}
        ecs.register_task_definition(**{**kept, "containerDefinitions": [changed]})
        try:
            yield
        finally:
            ecs.register_task_definition(**kept)


def rest_is_over(story: Story) -> None:
    """As a minute later: the wake that was given up was so a minute ago."""
    with owner(story, "dynamodb") as dynamodb:
        dynamodb.update_item(
            TableName=CONTROL.full_name(NAMESPACE),
            Key={"item": {"S": "front"}},
            UpdateExpression="ADD failed_at :rest",
            ExpressionAttributeValues={":rest": {"N": str(-REST_S)}},
        )


def effects(story: Story, before: Mapping[str, int]) -> Mapping[str, int]:
    """How often each call that starts or turns something was made since."""
    now = story.desk.calls()
    made = {name: now.get(name, 0) - before.get(name, 0) for name in _EFFECTS}
    return {name: count for name, count in made.items() if count}


def desired(story: Story) -> int:
    """How many tasks are wanted."""
    environment = story.desk.stack.task_environment()
    return story.desk.account.tasks(environment["DIOGENES_CLUSTER"], environment["DIOGENES_SERVICE"])


def mailed(story: Story) -> str:
    """The subjects of all that was mailed."""
    return "\n".join(mail.subject for mail in story.desk.account.mails())


async def failed_wakes(story: Story) -> list[str]:
    """The code of each, once one is in the log: whoever gave the wake up writes it there."""
    async with asyncio.timeout(BOUND_S), story.http() as http:
        while True:
            page = (await http.get("api/events", params={"kind": "wake-failed"})).raise_for_status().json()
            if page["events"]:
                return [event["data"]["code"] for event in page["events"]]
            await asyncio.sleep(POLL_S)
