"""What the tests of the real engine share: its models, its first start as it was seen, and two ways to ask it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

from gpu_node.engine import Load, parse_load
from gpu_node.protocol import ENGINE_PORT
from tests.desk.story import Story
from tests.vllm import hub

MODEL = "vllm/serving"
TIMEOUT_S = 120.0


class Refused(NamedTuple):
    """A model that cannot start: its configuration, the code that its clients get, and what the engine says of it."""

    config: Mapping[str, Any]
    code: str
    said: str


REFUSED: Mapping[str, Refused] = {
    "vllm/flag": Refused(
        {"repository": hub.OPEN, "vllmArgs": "--no-such-flag"}, "bad_engine_argument", "--no-such-flag"
    ),
    "vllm/awq": Refused(
        {"repository": hub.OPEN, "vllmArgs": "--quantization awq"},
        "unsupported_quantization",
        "Cannot find the config file for awq",
    ),
    "vllm/long": Refused(
        {"repository": hub.OPEN, "vllmArgs": "--max-model-len 8192 --kv-cache-memory-bytes 1M"},
        "out_of_gpu_memory",
        "larger than the available KV cache memory",
    ),
    "vllm/missing": Refused({"repository": hub.MISSING}, "model_not_found_on_hub", "is not a valid model identifier"),
    "vllm/gated": Refused({"repository": hub.GATED}, "gated_model", "Cannot access gated repo"),
}


@dataclass
class Boot:
    """A start, as it was seen from outside."""

    answer: bytes = b""  # of the client that waited for it
    seen: list[str] = field(default_factory=list)  # the phases that the API told, in their order
    log: list[str] = field(default_factory=list)  # every line that it showed

    def note(self, status: Mapping[str, Any]) -> None:
        start = status["start"]
        if start and start["phase"] not in self.seen:
            self.seen.append(start["phase"])
        for node in status["instances"]:
            self.log += [line for line in node["log_tail"] if line not in self.log]


class Serving:
    """The model, asked through Diogenes or straight at its engine."""

    def __init__(self, story: Story) -> None:
        self.story = story

    @property
    def node(self) -> str:
        """The only node that is ready."""
        (found,) = (m.id for m in self.story.alive(MODEL) if self.story.row(m.id).get("status") == "ready")
        return found

    @property
    def address(self) -> str:
        """The engine's."""
        return str(self.story.row(self.node)["ip"])

    def relayed(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        key = {"authorization": f"Bearer {self.story.desk.api_key}"}
        url = self.story.desk.base_url.removesuffix("/v1")
        return httpx.post(url + path, json={"model": MODEL, **body}, headers=key, timeout=TIMEOUT_S)

    def direct(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        return httpx.post(self._engine + path, json={"model": MODEL, **body}, timeout=TIMEOUT_S)

    def load(self) -> Load | None:
        """As the agent reads it."""
        return parse_load(self._metrics())

    def generated(self) -> float:
        """Tokens since the engine's start."""
        found = re.search(r"^vllm:generation_tokens_total\{[^}]*\} (\S+)", self._metrics(), re.MULTILINE)
        assert found
        return float(found[1])

    @property
    def _engine(self) -> str:
        return f"http://{self.address}:{ENGINE_PORT}"

    def _metrics(self) -> str:
        return httpx.get(f"{self._engine}/metrics", timeout=30).text
