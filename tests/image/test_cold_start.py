"""The image holds a request, wakes a GPU node and relays its answer; the node is the rehearsal's, on this machine."""

from __future__ import annotations

from collections.abc import Mapping

import openai
import pytest

from rehearsal.desk import Desk, Options
from rehearsal.stack import OWNER
from tests.image.building import Built
from tests.image.container import Container

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

MODEL = "org/small"


def test_a_cold_model_answers(image: Built) -> None:
    models = [{"name": MODEL, "instanceTypes": ["g6.xlarge"]}]
    options = Options(boot_seconds=0.2, load_seconds=0.2, control_plane=False, models=models)
    # On this machine's network: the emulated instances have loopback addresses.
    with Desk(options) as desk, Container(environment(desk), host_network=True) as container:
        container.wait_until_healthy(desk.web_url.rstrip("/"))
        with openai.OpenAI(base_url=desk.base_url, api_key=key(container), max_retries=0, timeout=60) as client:
            answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
        assert answer.choices[0].message.content
        assert desk.calls()["autoscaling:LaunchInstances"] == 1
        assert desk.denied() == []
        assert container.stop(limit_s=20) < 10
        assert container.exit_status() != 137, "it was killed"


def environment(desk: Desk) -> Mapping[str, str]:
    """The task's, without the front: there is no load balancer on a desk."""
    told = desk.stack.task_environment()
    credentials = desk.account.assume(desk.stack.task_role, service="ecs-tasks.amazonaws.com", session="image")
    return {
        "AWS_DEFAULT_REGION": told["AWS_DEFAULT_REGION"],
        "DIOGENES_NAMESPACE": desk.namespace,
        **credentials.environment(),
        "AWS_ENDPOINT_URL": desk.aws_url,
        "DIOGENES_HOST": "127.0.0.1",
        "DIOGENES_PORT": str(desk.port),
        "DIOGENES_STOP_TIMEOUT_S": "5",
        "DIOGENES_TICK_S": "0.5",
    }


def key(container: Container) -> str:
    command = ("key", "create", "--email", OWNER, "--name", "laptop")
    status, printed = container.run("python", "-m", "control_plane", *command)
    assert status == 0, printed
    return printed.strip()
