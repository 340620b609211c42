"""The real engine and its libraries take weights as a node brings them: in the hub's cache, or from the mirror."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpu_node.engine_settings import EngineSettings
from gpu_node.hub import Hub
from gpu_node.phases import PhaseTracker
from gpu_node.protocol import Phase
from gpu_node.provision import Provision, Ready, Tools
from gpu_node.weights import Source
from rehearsal.vllm_cpu import CPU_ENVIRONMENT, CPU_FLAGS, make_tiny_model
from tests.gpu_node.fake_hub import COMMIT, FakeHub, serving
from tests.gpu_node.files import NAME, Files

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
        ready = provisioned(hub, tmp_path, EngineSettings(), "serve", "org/tiny")
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


def provisioned(hub: FakeHub, home: Path, settings: EngineSettings, *words: str, files: Files | None = None) -> Ready:
    tools = Tools(
        hub=Hub(hub.endpoint),
        bucket=files.bucket() if files else None,
        install=lambda: 0,
        gpu=lambda: "",
        memory_bytes=4 * 10**9,
        clock=lambda: 0.0,
        pause=lambda _: None,
        write=lambda _: None,
    )
    return Provision(settings, words, tools, home=home, version="").run()


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, port: Callable[[], int]) -> Iterator[Files]:
    """A bucket in an emulated S3, in a process of its own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    chosen = port()
    with running([sys.executable, "-m", "tests.gpu_node.emulator", str(chosen)], dict(os.environ)):
        wait_for(lambda: answers(chosen, "/moto-api/data.json"), 60)
        yield Files(f"http://127.0.0.1:{chosen}")


@pytest.fixture
def port() -> Callable[[], int]:
    def free() -> int:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            return int(probe.getsockname()[1])

    return free


@pytest.mark.timeout(600)
def test_the_engine_streams_from_the_mirror_that_the_first_node_made(
    vllm_venv: Path, files: Files, port: Callable[[], int], tmp_path: Path
) -> None:
    if not list(vllm_venv.glob("lib/python3*/site-packages/runai_model_streamer_s3")):
        pytest.skip("no streamer: `pip install 'runai-model-streamer[s3]'` into vLLM's environment brings it")
    make_tiny_model(vllm_venv, tmp_path / "model")
    repository = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    settings = EngineSettings(weights=Source.S3, bucket=NAME, node="i-1", region="eu-west-1")
    chosen, log = port(), tmp_path / "log"
    words = ["serve", "org/tiny", "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(chosen)]
    with serving(FakeHub(files=repository)) as hub:
        first = provisioned(hub, tmp_path / "one", settings, *words, files=files)
        first.afterwards.run(healthy=lambda: True, alive=lambda: True, pause=lambda _: None, say=lambda _: None)
        ready = provisioned(hub, tmp_path / "two", settings, *words, files=files)
    environment = {
        **CPU_ENVIRONMENT,
        **ready.environment,
        **{name: os.environ[name] for name in ("PATH", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
        "HOME": str(tmp_path / "two"),
        "HF_HUB_OFFLINE": "1",  # everything is in the bucket
        "AWS_ENDPOINT_URL": files.endpoint,
        "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING": "0",  # the emulator has no names for its buckets
    }
    verb, address, *rest = ready.arguments
    with running([str(vllm_venv / "bin/vllm"), verb, address, *CPU_FLAGS, *rest], environment, log) as engine:
        wait_for(lambda: answers(chosen, "/health") or engine.poll() is not None, 500)
        assert engine.poll() is None, log.read_text()[-3000:]
    tracker = PhaseTracker(0.0)
    for line in log.read_text().replace("\r", "\n").splitlines():
        tracker.read(line, 1.0)
    assert Phase.LOAD in [record.phase for record in tracker.records]
    assert "Runai Model Streamer: 100% Completed" in log.read_text()


@contextmanager
def running(
    command: list[str], environment: dict[str, str], log: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    with (log or Path(os.devnull)).open("w") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def wait_for(happened: Callable[[], bool], bound_s: float) -> None:
    end = time.monotonic() + bound_s
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.2)
