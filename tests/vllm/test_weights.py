"""The hub's own library, as the engine has it, finds what a node fetched, and fetches none of it again."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from gpu_node.engine_settings import EngineSettings
from gpu_node.hub import Hub
from gpu_node.provision import Provision, Tools
from tests.gpu_node.fake_hub import COMMIT, FakeHub, serving

pytestmark = pytest.mark.vllm

LOOKS = f"""
import json, os
from huggingface_hub import hf_hub_download, snapshot_download
one = hf_hub_download("org/tiny", "config.json", revision="{COMMIT}")
weights = snapshot_download("org/tiny", revision="{COMMIT}", allow_patterns=["*.safetensors"])
print(json.dumps([one, weights, sorted(os.listdir(weights))]))
"""


def test_the_engines_library_finds_the_weights_by_the_repositorys_name(vllm_venv: Path, tmp_path: Path) -> None:
    body = random.Random(1).randbytes(5000)
    with serving(FakeHub(files={"config.json": b'{"model_type": "llama"}', "model.safetensors": body})) as hub:
        tools = Tools(
            hub=Hub(hub.endpoint),
            bucket=None,
            install=lambda: 0,
            gpu=lambda: "",
            memory_bytes=0,
            clock=lambda: 0.0,
            pause=lambda _: None,
            write=lambda _: None,
        )
        ready = Provision(EngineSettings(), ["serve", "org/tiny"], tools, home=tmp_path, version="").run()
        hub.asked.clear()
        told = subprocess.run(
            [str(vllm_venv / "bin/python"), "-c", LOOKS],
            env={"PATH": os.environ["PATH"], "HF_ENDPOINT": hub.endpoint, "HOME": str(tmp_path), **ready.environment},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        folder = tmp_path / ".cache/huggingface/hub/models--org--tiny/snapshots" / COMMIT
        found = [str(folder / "config.json"), str(folder), ["config.json", "model.safetensors"]]
        assert json.loads(told.stdout) == found
        assert not [path for path, _ in hub.asked if path.startswith("/storage/")]
        assert (folder / "model.safetensors").read_bytes() == body
