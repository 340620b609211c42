"""One desk whose nodes run the real vLLM. Its starts are dear, so there is one engine for all that can share it.

The models that cannot start begin theirs together with the one that can. The files run in the order of their names:
what ends the engine comes last.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from rehearsal.vllm_cpu import make_tiny_model
from tests.desk.story import Answer, Story, opened
from tests.vllm import hub
from tests.vllm.serving import MODEL, REFUSED, Boot, Serving

HOME = Path(__file__).parents[2]
BOUND_S = 400.0  # what a question may take, with every start at once on a slow machine

SERVED_WITH = "--reasoning-parser qwen3 --max-model-len 8192"

ENVIRONMENT = {
    # Nothing of ours may land in a whole answer of an engine that is only slow. A refusal stands to the end.
    "DIOGENES_SILENT_HOLD_S": "50",
    "DIOGENES_KEEPALIVE_S": "10",
    "DIOGENES_FAILURE_MEMORY_S": "3600",
}


@pytest.fixture(scope="package")
def vllm_venv() -> Path:
    venv = os.environ.get("REHEARSAL_VLLM_VENV", str(HOME / ".cache" / "vllm-venv"))
    # What its installation makes last: half of one is none.
    if not venv or not list(Path(venv).glob("lib/python3*/site-packages/vllm-*.dist-info/RECORD")):
        pytest.skip("no real vLLM: `make vllm` installs it")
    return Path(venv)


@pytest.fixture(scope="package")
def hub_address(vllm_venv: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("tiny-model")
    make_tiny_model(vllm_venv, folder)
    with hub.serving(folder) as address:
        yield address


@pytest.fixture(scope="package")
def story(vllm_venv: Path, hub_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    environment = {
        **ENVIRONMENT,
        "REHEARSAL_VLLM_VENV": str(vllm_venv),
        "REHEARSAL_HUB": hub_address,
        "REHEARSAL_HUB_CACHE": str(tmp_path_factory.mktemp("hub-cache")),
    }
    models = [_model(MODEL), *(_model(model) for model in REFUSED)]
    with opened(*models, idle_seconds=3600, engine="vllm", bound_s=BOUND_S, environment=environment) as story:
        yield story
        asyncio.run(story.scale(MODEL, 0))


@pytest.fixture(scope="package")
def refusals(story: Story) -> Iterator[Mapping[str, Future[Answer]]]:
    """What becomes of a question to each model that cannot start; all are asked at once."""
    with ThreadPoolExecutor(len(REFUSED)) as clients:
        yield {model: clients.submit(asyncio.run, story.ask(model)) for model in REFUSED}


@pytest.fixture(scope="package")
def boot(story: Story, refusals: object) -> Boot:
    """The first start of the model, as who waits for it sees it, and as the API tells it meanwhile."""
    boot = Boot()
    ready = threading.Event()
    with ThreadPoolExecutor(1) as watcher:
        watching = watcher.submit(_watch, story, boot, ready)
        try:
            boot.answer = _first_answer(story)
        finally:
            ready.set()
        watching.result()
    return boot


@pytest.fixture
def serving(story: Story, boot: Boot) -> Serving:
    """The engine that answers now."""
    return Serving(story)


def _first_answer(story: Story) -> bytes:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "stream": True}
    key = {"authorization": f"Bearer {story.desk.api_key}"}
    answer = httpx.post(f"{story.desk.base_url}/chat/completions", json=body, headers=key, timeout=BOUND_S)
    return answer.raise_for_status().content


def _watch(story: Story, boot: Boot, ready: threading.Event) -> None:
    key = {"authorization": f"Bearer {story.desk.api_key}"}
    with httpx.Client(base_url=story.desk.web_url, headers=key, timeout=30) as api:
        while not ready.is_set():
            status: dict[str, Any] = api.get(f"api/models/{MODEL}").raise_for_status().json()
            boot.note(status)
            time.sleep(0.2)


def _model(name: str) -> Mapping[str, Any]:
    if name == MODEL:
        return {"name": name, "repository": hub.OPEN, "vllmArgs": SERVED_WITH}
    return {"name": name, **REFUSED[name].config}
