"""The engine's program: what it brings before it is the engine, what it says meanwhile, and what it leaves behind."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpu_node.afterwards import Afterwards
from gpu_node.bucket import Bucket
from gpu_node.engine_settings import EngineSettings
from gpu_node.hub import Hub
from gpu_node.phases import PhaseTracker
from gpu_node.protocol import Phase
from gpu_node.provision import EngineNotInstalled, Provision, Ready, Tools
from gpu_node.weights import Source, WeightsFailure, value_of
from tests.gpu_node.fake_hub import COMMIT, FakeHub, serving
from tests.gpu_node.files import NAME, Files
from tests.gpu_node.process import wait_for

BODY = random.Random(3).randbytes(50_000)
SERVE = ("serve", "org/tiny", "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", "1")
IN_S3 = EngineSettings(weights=Source.S3, bucket=NAME, node="i-1", region="eu-west-1")
SNAPSHOT = f".cache/huggingface/hub/models--org--tiny/snapshots/{COMMIT}"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving(FakeHub(files={"config.json": b"{}", "model.safetensors": BODY})) as served:
        yield served


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
        wait_for(there.exists, within_s=60)
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
