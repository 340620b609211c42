"""The engine's program: what it brings before it is the engine, what it says meanwhile, and what it leaves running."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gpu_node.afterwards import Afterwards
from gpu_node.bucket import Bucket
from gpu_node.engine_settings import EngineKind, EngineSettings
from gpu_node.hub import Hub
from gpu_node.package import HOME
from gpu_node.phases import PhaseTracker
from gpu_node.protocol import Phase
from gpu_node.provision import EngineNotInstalled, Provision, Ready, Tools, container_command
from gpu_node.weights import Source, WeightsFailure, value_of
from tests.gpu_node.account import REGION
from tests.gpu_node.fake_hub import COMMIT, FakeHub, serving
from tests.gpu_node.files import NAME, Files
from tests.gpu_node.machine import Machine

BODY = random.Random(3).randbytes(50_000)
SERVE = ("serve", "org/tiny", "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", "1")
IN_S3 = EngineSettings(weights=Source.S3, bucket=NAME, node="i-1", region="eu-west-1")
SNAPSHOT = f".cache/huggingface/hub/models--org--tiny/snapshots/{COMMIT}"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving(FakeHub(files={"config.json": b"{}", "model.safetensors": BODY})) as served:
        yield served


@pytest.fixture
def files(aws_endpoint: str) -> Files:
    return Files(aws_endpoint)


class Node:
    """A machine of its own, by its folder."""

    def __init__(self, hub: FakeHub, home: Path, *, bucket: Bucket | None = None, gpu: str = "") -> None:
        self.home = home
        self.written: list[str] = []
        self.clock = 0.0
        self.tools = Tools(
            hub=Hub(hub.endpoint, "hf_mine", timeout_s=5),
            bucket=bucket,
            install=lambda: 0,
            gpu=lambda: gpu,
            memory_bytes=16 * 10**9,
            clock=lambda: self.clock,
            pause=lambda _: None,
            write=self.written.append,
        )

    def start(self, settings: EngineSettings = EngineSettings(), *more: str) -> Ready:  # noqa: B008 - frozen
        return Provision(settings, [*SERVE, *more], self.tools, home=self.home, version="vllm 0.32.0").run()

    def afterwards(self, ready: Ready) -> None:
        ready.afterwards.run(
            healthy=lambda: True, alive=lambda: True, pause=lambda _: None, say=lambda text: self.written.append(text)
        )

    @property
    def output(self) -> str:
        return "".join(self.written)

    def read(self, path: str) -> bytes:
        return (self.home / SNAPSHOT / path).read_bytes()


# -- from the hub ----------------------------------------------------------------------------------------------------


def test_weights_come_to_where_the_engine_looks_first(hub: FakeHub, tmp_path: Path) -> None:
    node = Node(hub, tmp_path)
    ready = node.start()
    assert list(ready.arguments) == [*SERVE, "--revision", COMMIT]
    assert ready.environment == {
        "VLLM_CACHE_ROOT": f"{tmp_path}/.cache/vllm",
        "HF_HOME": f"{tmp_path}/.cache/huggingface",
    }
    assert node.read("model.safetensors") == BODY
    assert not ready.afterwards


def test_bytes_are_a_phase_of_their_own_once_the_engine_is_there(hub: FakeHub, tmp_path: Path) -> None:
    node = Node(hub, tmp_path)
    node.start()
    tracker = PhaseTracker(0.0)
    tracker.enter(Phase.ENGINE_INSTALL, 1.0)
    for line in node.output.replace("\r", "\n").splitlines():
        tracker.read(line, 2.0)
    record = tracker.records[-1]
    assert record.phase is Phase.WEIGHTS
    assert record.total_bytes == record.done_bytes == len(BODY) + 2


def test_nothing_is_said_of_the_weights_while_the_engine_is_installed(hub: FakeHub, tmp_path: Path) -> None:
    node = Node(hub, tmp_path)
    there = tmp_path / SNAPSHOT / "model.safetensors"
    seen: list[str] = []

    def install() -> int:
        wait_for(there.exists)
        seen.extend(node.written)
        return 0

    node.tools = replace(node.tools, install=install)
    node.start()
    assert seen == []
    assert node.output.startswith(f"diogenes: weights {len(BODY) + 2}/")


def test_a_gated_model_is_known_before_the_engine_is_installed(hub: FakeHub, tmp_path: Path) -> None:
    hub.token = "of somebody else"
    node, told = Node(hub, tmp_path), threading.Event()

    def install() -> int:
        told.wait(30)
        return 0

    node.tools = replace(node.tools, install=install)
    try:
        with pytest.raises(WeightsFailure, match="gated") as raised:
            node.start()
    finally:
        told.set()
    assert raised.value.code == "gated_model"


def test_an_engine_that_cannot_be_installed_is_told_with_its_status(hub: FakeHub, tmp_path: Path) -> None:
    node = Node(hub, tmp_path)
    node.tools = replace(node.tools, install=lambda: 7)
    with pytest.raises(EngineNotInstalled) as raised:
        node.start()
    assert raised.value.status == 7


def test_a_hub_that_is_away_is_left_to_the_engine(hub: FakeHub, tmp_path: Path) -> None:
    hub.down = True
    node = Node(hub, tmp_path)
    assert list(node.start().arguments) == list(SERVE)
    assert "diogenes: the hub answered 503\n" in node.output


@pytest.mark.parametrize("model", ["FOLDER", "s3://mine/model", "--help"])
def test_what_is_not_the_hubs_is_not_asked_of_it(hub: FakeHub, tmp_path: Path, model: str) -> None:
    node = Node(hub, tmp_path)
    arguments = ["serve", model.replace("FOLDER", str(tmp_path))]
    ready = Provision(EngineSettings(), arguments, node.tools, home=tmp_path, version="").run()
    assert list(ready.arguments) == arguments
    assert hub.asked == []


# -- the mirror ------------------------------------------------------------------------------------------------------


def test_the_first_node_mirrors_and_the_next_one_streams(hub: FakeHub, files: Files, tmp_path: Path) -> None:
    first = Node(hub, tmp_path / "one", bucket=files.bucket())
    ready = first.start(IN_S3)
    assert list(ready.arguments) == [*SERVE, "--revision", COMMIT]
    first.afterwards(ready)
    assert "the weights are mirrored: 0.0 GB" in first.written
    hub.asked.clear()
    second = Node(hub, tmp_path / "two", bucket=files.bucket())
    streams = second.start(IN_S3)
    assert streams.arguments[1] == f"s3://{NAME}/weights/org--tiny/{COMMIT}"
    assert value_of(streams.arguments, "--load-format") == "runai_streamer"
    assert (streams.environment["AWS_REGION"], streams.environment["AWS_DEFAULT_REGION"]) == ("eu-west-1",) * 2
    assert [path for path, _ in hub.asked] == ["/api/models/org/tiny/revision/main"]
    assert not (tmp_path / "two" / SNAPSHOT).exists()
    assert not streams.afterwards


def mirrored(hub: FakeHub, files: Files, home: Path) -> None:
    node = Node(hub, home, bucket=files.bucket())
    node.afterwards(node.start(IN_S3))


def test_what_is_streamed_shows_its_bytes_while_it_is_loaded(hub: FakeHub, files: Files, tmp_path: Path) -> None:
    mirrored(hub, files, tmp_path / "one")
    node = Node(hub, tmp_path / "two", bucket=files.bucket())
    node.start(IN_S3)
    tracker = PhaseTracker(0.0)
    tracker.read("diogenes: weights to stream: 10.00 GiB", 1.0)
    assert node.output == "diogenes: weights to stream: 0.00 GiB\n"  # nothing is fetched, so that is no phase
    tracker.read("Loading safetensors using Runai Model Streamer:  25% Completed | 1/4 [00:01<00:03]", 2.0)
    assert (tracker.current, tracker.records[-1].done_bytes) == (Phase.LOAD, 10 * 1024**3 // 4)


def test_an_engine_that_loads_its_own_way_gets_a_copy(hub: FakeHub, files: Files, tmp_path: Path) -> None:
    mirrored(hub, files, tmp_path / "one")
    hub.asked.clear()
    node = Node(hub, tmp_path / "two", bucket=files.bucket())
    ready = node.start(IN_S3, "--load-format", "fastsafetensors")
    assert node.read("model.safetensors") == BODY
    assert ready.arguments[1] == "org/tiny"
    assert len(hub.asked) == 1


def test_a_copy_that_is_not_what_was_mirrored_is_fetched_from_the_hub(
    hub: FakeHub, files: Files, tmp_path: Path
) -> None:
    mirrored(hub, files, tmp_path / "one")
    files.write(f"weights/org--tiny/{COMMIT}/model.safetensors", bytes(len(BODY)))
    node = Node(hub, tmp_path / "two", bucket=files.bucket())
    node.start(IN_S3, "--load-format", "fastsafetensors")
    assert node.read("model.safetensors") == BODY
    assert "the mirror cannot be used: model.safetensors came twice with another content" in node.output


def test_a_mirror_serves_while_the_hub_is_away(hub: FakeHub, files: Files, tmp_path: Path) -> None:
    mirrored(hub, files, tmp_path / "one")
    hub.down = True
    node = Node(hub, tmp_path / "two", bucket=files.bucket())
    assert node.start(IN_S3).arguments[1] == f"s3://{NAME}/weights/org--tiny/{COMMIT}"


def test_a_newer_commit_is_fetched_and_mirrored_beside_the_old_one(hub: FakeHub, files: Files, tmp_path: Path) -> None:
    mirrored(hub, files, tmp_path / "one")
    hub.commit = "b" * 40
    node = Node(hub, tmp_path / "two", bucket=files.bucket())
    node.afterwards(node.start(IN_S3))
    assert {key.split("/")[2].split(".")[0] for key in files.names()} == {COMMIT, "b" * 40, "refs"}
    hub.down = True
    assert Node(hub, tmp_path / "three", bucket=files.bucket()).start(IN_S3).arguments[1].endswith("b" * 40)


def test_a_bucket_that_denies_everything_costs_the_mirror_and_no_start(
    hub: FakeHub, files: Files, tmp_path: Path
) -> None:
    node = Node(hub, tmp_path, bucket=files.bucket(refuse=lambda *_: True), gpu="NVIDIA L4")
    ready = node.start(IN_S3)
    assert node.read("model.safetensors") == BODY
    assert "diogenes: the mirror cannot be read: ListObjectsV2: AccessDenied\n" in node.written
    assert "diogenes: the compile cache cannot be restored: ListObjectsV2: AccessDenied\n" in node.written
    (tmp_path / ".cache/vllm/torch_compile_cache").mkdir(parents=True)
    (tmp_path / ".cache/vllm/torch_compile_cache/x").write_bytes(b"x")
    node.afterwards(ready)
    assert "the compile cache cannot be saved: PutObject: AccessDenied" in node.written
    assert "the weights are not mirrored: ListObjectsV2: AccessDenied" in node.written


def test_the_compile_cache_of_one_start_is_the_next_ones(hub: FakeHub, files: Files, tmp_path: Path) -> None:
    settings = replace(IN_S3, weights=Source.HUB)
    first = Node(hub, tmp_path / "one", bucket=files.bucket(), gpu="NVIDIA L4")
    ready = first.start(settings)
    graph = Path(ready.environment["VLLM_CACHE_ROOT"]) / "torch_compile_cache/graph"
    graph.parent.mkdir(parents=True)
    graph.write_bytes(b"compiled")
    first.afterwards(ready)
    second = Node(hub, tmp_path / "two", bucket=files.bucket(), gpu="NVIDIA L4")
    cache = Path(second.start(settings).environment["VLLM_CACHE_ROOT"])
    assert (cache / "torch_compile_cache/graph").read_bytes() == b"compiled"
    assert "the compile cache is restored" in second.output


def test_an_engine_that_never_answers_leaves_nothing_behind() -> None:
    class Saves:
        def save(self) -> int:
            raise AssertionError("the engine never answered")

    alive = iter([True, True, False])
    pauses: list[float] = []
    Afterwards(cache=Saves()).run(
        healthy=lambda: False, alive=lambda: next(alive), pause=pauses.append, say=lambda text: None
    )
    assert len(pauses) == 2


# -- the container ---------------------------------------------------------------------------------------------------


def test_a_container_sees_the_weights_and_the_gpus_and_no_secret_is_on_its_command_line() -> None:
    environment = {
        "HF_TOKEN": "hf_secret",
        "VLLM_CACHE_ROOT": "/c",
        "PATH": "/bin",
        "AWS_REGION": "eu-west-1",
        "X": "1",
    }
    words = container_command("vllm:1", ["serve", "x"], environment, home=Path("/data"), user=(7, 8))
    line = " ".join(words)
    assert "hf_secret" not in line
    assert [words[place + 1] for place, word in enumerate(words) if word == "--env"] == [
        *("HOME=/data", "USER=diogenes", "AWS_REGION", "HF_TOKEN", "VLLM_CACHE_ROOT")
    ]
    assert words[-5:] == ["--entrypoint", "vllm", "vllm:1", "serve", "x"]
    assert "--volume /data:/data" in line
    assert "--user 7:8" in line
    assert "--gpus all" in line
    assert not [word for word in words if "docker.sock" in word or word == "--privileged"]


# -- the whole program -----------------------------------------------------------------------------------------------

ENGINE = f"""#!{sys.executable}
import http.server, os, sys
print("engine", *sys.argv[1:], flush=True)
print("kept", *sorted(name for name in os.environ if name.startswith(("AWS_", "DIOGENES_", "HF_TOKEN"))), flush=True)
class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
if "--port" in sys.argv:
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Healthy).serve_forever()
"""


def installed(home: Path) -> None:
    """An engine as install.sh leaves it."""
    program = home / "vllm/bin/vllm"
    program.parent.mkdir(parents=True)
    program.write_text(ENGINE)
    program.chmod(0o755)
    lock = (HOME / "requirements-engine.txt").read_bytes()
    (home / "vllm/.installed").write_text(hashlib.sha256(lock).hexdigest())


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_program_becomes_the_engine_and_mirrors_beside_it(
    hub: FakeHub, files: Files, tmp_path: Path, free_port: int
) -> None:
    installed(tmp_path)
    hub.token = "hf_mine"
    environment = {
        **{name: os.environ[name] for name in ("PATH", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
        **IN_S3.to_env(),
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": files.endpoint,
        "HOME": str(tmp_path),
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": "hf_mine",
        "DIOGENES_NODE_MODEL": "tiny",
    }
    words = ["serve", "org/tiny", "--host", "127.0.0.1", "--port", str(free_port)]
    with started([sys.executable, "-m", "gpu_node.provision", *words], environment) as process:
        wait_for(lambda: f"weights/org--tiny/{COMMIT}.manifest" in files.names())
        pid = process.pid
        os.killpg(pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    lines = output.splitlines()
    assert f"engine {' '.join(words)} --revision {COMMIT}" in lines
    assert "kept HF_TOKEN" in lines
    assert "hf_mine" not in output


def test_a_failure_ends_the_program_before_there_is_an_engine(hub: FakeHub, tmp_path: Path) -> None:
    installed(tmp_path)
    hub.missing = True
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_ENDPOINT": hub.endpoint}
    with started([sys.executable, "-m", "gpu_node.provision", *SERVE], environment) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "diogenes: model_not_found_on_hub: the hub has no such repository" in output
    assert "engine serve" not in output


def test_who_ends_the_engine_ends_its_installation(hub: FakeHub, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "requirements-engine.txt").write_text("vllm==9\n")
    (package / "install.sh").write_text("#!/bin/bash\necho installs $$\nexec sleep 60\n")
    (package / "install.sh").chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_ENDPOINT": hub.endpoint}
    with started([sys.executable, "-m", "gpu_node.provision", *SERVE], environment, package) as process:
        assert process.stdout
        words = [process.stdout.readline() for _ in range(2)]
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)
    assert words[0] == "diogenes: installing the engine\n"
    installer = int(words[1].split()[1])
    wait_for(lambda: not Path(f"/proc/{installer}").exists() or "Z" in Path(f"/proc/{installer}/stat").read_text())


def started(command: Sequence[str], environment: Mapping[str, str], folder: Path = HOME) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env={**environment, "PYTHONPATH": str(HOME.parent)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_from_user_data_to_the_engine(hub: FakeHub, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    outcome = machine.boot(engine=EngineSettings(kind=EngineKind.CONTAINER, image="vllm:1", bucket=""))
    assert outcome.status == 0, outcome.output
    docker = tmp_path / "bin/docker"
    docker.write_text('#!/bin/bash\necho "docker $*"\n')
    docker.chmod(0o755)
    packages = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    program = str(tmp_path / "opt/diogenes/engine.sh")
    run = machine.run([program, *SERVE], HOME=str(tmp_path), PYTHONPATH=packages, HF_ENDPOINT=hub.endpoint)
    assert run.status == 0, run.output
    lines = run.output.replace("\r", "\n").splitlines()
    assert lines[-1].startswith("docker run --rm --init")
    assert lines[-1].endswith(f"vllm:1 {' '.join(SERVE)} --revision {COMMIT}")
    assert "docker pull --quiet vllm:1" in lines
