"""Weights come from a hub on loopback, whole or not at all, whatever happens on the way."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from gpu_node.download import ATTEMPTS, Download
from gpu_node.hub import Hub, HubUnavailable
from gpu_node.phases import explain
from gpu_node.weights import RESERVE_BYTES, Manifest, WeightFile, WeightsFailure
from tests.gpu_node.fake_hub import COMMIT, FakeHub, serving

BODY = random.Random(5).randbytes(300_000)
SMALL = b'{"model_type": "llama"}'
SHARD = "model-00001-of-00002.safetensors"
PLENTY = 10 * RESERVE_BYTES


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    files = {"config.json": SMALL, SHARD: BODY, "model-00002-of-00002.safetensors": BODY[:5000], "README.md": b"#"}
    with serving(FakeHub(files=files)) as served:
        yield served


class Fetching:
    """One download into a folder, and what it did."""

    def __init__(self, hub: FakeHub, folder: Path, *, free: int = PLENTY, workers: int = 2) -> None:
        self.client = Hub(hub.endpoint, hub.token, timeout_s=5)
        self.folder, self.free, self.workers = folder, free, workers
        self.pauses: list[float] = []
        self.told: list[tuple[int, int]] = []

    def run(self) -> Manifest:
        manifest = self.client.manifest("org/tiny", None)
        Download(
            partial(self.client.opened, manifest),
            self.folder,
            pause=self.pauses.append,
            progress=lambda done, total: self.told.append((done, total)),
            free_bytes=lambda _: self.free,
            workers=self.workers,
        ).fetch(manifest.files)
        return manifest

    def fails(self) -> WeightsFailure:
        with pytest.raises(WeightsFailure) as raised:
            self.run()
        return raised.value


def assert_whole(hub: FakeHub, fetching: Fetching, manifest: Manifest) -> None:
    there = {
        str(path.relative_to(fetching.folder)): path.read_bytes()
        for path in fetching.folder.rglob("*")
        if path.is_file()
    }
    assert there == {file.path: hub.files[file.path] for file in manifest.files}
    assert fetching.told[-1] == (manifest.total_bytes, manifest.total_bytes)


def test_everything_comes_is_checked_and_told(hub: FakeHub, tmp_path: Path) -> None:
    fetching = Fetching(hub, tmp_path / "snapshot")
    manifest = fetching.run()
    assert manifest.commit == COMMIT
    assert_whole(hub, fetching, manifest)
    assert "README.md" not in [file.path for file in manifest.files]
    assert fetching.told[0] == (0, manifest.total_bytes)
    assert fetching.told == sorted(fetching.told)


def test_the_token_is_shown_to_the_hub_and_not_to_its_storage(hub: FakeHub, tmp_path: Path) -> None:
    hub.token = "hf_secret"
    Fetching(hub, tmp_path).run()
    storage = [headers for path, headers in hub.asked if path.startswith("/storage/")]
    assert storage
    assert not [headers for headers in storage if "authorization" in headers]


def test_a_connection_that_is_cut_is_taken_up_where_it_ended(hub: FakeHub, tmp_path: Path) -> None:
    hub.cuts[SHARD] = [100_000, 0, 150_000]
    fetching = Fetching(hub, tmp_path)
    assert_whole(hub, fetching, fetching.run())
    assert hub.ranges(SHARD) == ["", "bytes=100000-", "bytes=100000-", "bytes=250000-"]
    assert len(fetching.pauses) == 3


def test_a_storage_without_ranges_is_read_from_the_beginning(hub: FakeHub, tmp_path: Path) -> None:
    hub.cuts[SHARD], hub.ignores_ranges = [100_000], True
    fetching = Fetching(hub, tmp_path)
    assert_whole(hub, fetching, fetching.run())


def test_another_start_goes_on_with_what_the_first_one_left(hub: FakeHub, tmp_path: Path) -> None:
    hub.cuts[SHARD] = [200_000] + [0] * ATTEMPTS
    assert Fetching(hub, tmp_path).fails().code == "weights_unavailable"
    assert (tmp_path / f"{SHARD}.part").stat().st_size == 200_000
    hub.asked.clear()
    hub.cuts.clear()
    again = Fetching(hub, tmp_path)
    assert_whole(hub, again, again.run())
    assert hub.ranges(SHARD) == ["bytes=200000-"]
    assert again.told[0][0] >= 200_000


def test_what_is_whole_is_not_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    Fetching(hub, tmp_path).run()
    hub.asked.clear()
    Fetching(hub, tmp_path).run()
    assert [path for path, _ in hub.asked] == ["/api/models/org/tiny/revision/main"]


def test_wrong_bytes_are_thrown_away_and_fetched_once_more(hub: FakeHub, tmp_path: Path) -> None:
    hub.corrupt[SHARD] = 1
    fetching = Fetching(hub, tmp_path)
    assert_whole(hub, fetching, fetching.run())
    assert hub.ranges(SHARD) == ["", ""]


def test_a_small_file_is_checked_by_gits_name_for_it(hub: FakeHub, tmp_path: Path) -> None:
    hub.corrupt["config.json"] = 1
    fetching = Fetching(hub, tmp_path)
    assert_whole(hub, fetching, fetching.run())


def test_bytes_that_stay_wrong_never_get_the_files_name(hub: FakeHub, tmp_path: Path) -> None:
    hub.corrupt[SHARD] = 99
    failure = Fetching(hub, tmp_path).fails()
    assert failure.code == "weights_corrupt"
    assert explain(3, [f"diogenes: {failure.code}: {failure}"]).code == "weights_corrupt"
    assert not (tmp_path / SHARD).exists()


def test_leftovers_longer_than_the_file_are_not_taken_for_it(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / f"{SHARD}.part").write_bytes(BODY + b"of another revision")
    fetching = Fetching(hub, tmp_path)
    assert_whole(hub, fetching, fetching.run())


def test_a_file_of_no_bytes_is_a_file(hub: FakeHub, tmp_path: Path) -> None:
    hub.files["empty.txt"] = b""
    fetching = Fetching(hub, tmp_path)
    assert_whole(hub, fetching, fetching.run())


def test_a_disk_that_is_too_small_is_told_before_a_byte_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    fetching = Fetching(hub, tmp_path, free=RESERVE_BYTES)
    failure = fetching.fails()
    assert failure.code == "disk_full"
    assert explain(3, [f"diogenes: {failure.code}: {failure}"]).code == "disk_full"
    assert not [path for path, _ in hub.asked if "resolve" in path]


def test_a_disk_that_fills_on_the_way_is_told_as_such(tmp_path: Path) -> None:
    @contextmanager
    def opened(file: WeightFile, start: int) -> Iterator[Iterator[bytes]]:
        def chunks() -> Iterator[bytes]:
            yield b"x"
            raise OSError(errno.ENOSPC, "No space left on device")

        yield chunks()

    download = Download(opened, tmp_path, pause=lambda _: None, free_bytes=lambda _: PLENTY)
    with pytest.raises(WeightsFailure, match="filled") as raised:
        download.fetch([WeightFile("a", 100)])
    assert raised.value.code == "disk_full"


def test_one_file_that_fails_stops_the_others(hub: FakeHub, tmp_path: Path) -> None:
    del hub.files["config.json"]
    manifest = Manifest("org/tiny", COMMIT, (WeightFile(SHARD, len(BODY)), WeightFile("config.json", 5)))
    client = Hub(hub.endpoint)
    hub.cuts[SHARD] = [1000] * 1000
    download = Download(
        partial(client.opened, manifest), tmp_path, pause=lambda _: None, free_bytes=lambda _: PLENTY, workers=2
    )
    with pytest.raises(WeightsFailure):
        download.fetch(manifest.files)
    assert not (tmp_path / SHARD).exists()


# -- what the hub says -----------------------------------------------------------------------------------------------


def gated(hub: FakeHub) -> None:
    hub.token = "of somebody else"


def hidden(hub: FakeHub) -> None:
    hub.token, hub.refusal = "of somebody else", (401, "RepoNotFound")


def missing(hub: FakeHub) -> None:
    hub.missing = True


@pytest.mark.parametrize(
    ("trouble", "code"),
    [(gated, "gated_model"), (hidden, "model_not_found_on_hub"), (missing, "model_not_found_on_hub")],
)
def test_a_repository_that_cannot_be_had_says_why(
    hub: FakeHub, tmp_path: Path, trouble: Callable[[FakeHub], None], code: str
) -> None:
    trouble(hub)
    with pytest.raises(WeightsFailure) as raised:
        Hub(hub.endpoint, "hf_mine").manifest("org/tiny", None)
    assert raised.value.code == code
    assert explain(3, [f"diogenes: {code}: {raised.value}"]).permanent


def test_a_hub_that_is_down_is_not_the_models_fault(hub: FakeHub) -> None:
    hub.down = True
    with pytest.raises(HubUnavailable, match="503"):
        Hub(hub.endpoint).manifest("org/tiny", None)
    with pytest.raises(HubUnavailable, match="reached"):
        Hub("http://127.0.0.1:9").manifest("org/tiny", None)
    with pytest.raises(HubUnavailable, match="https"):
        Hub("http://hub.example.org").manifest("org/tiny", None)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_the_storage_refuses_says_nothing_of_the_repository(hub: FakeHub, status: int) -> None:
    """A link that expired, or too many at once: the next one may be good."""
    client = Hub(hub.endpoint)
    manifest = client.manifest("org/tiny", None)
    hub.storage_refusal = status
    large = next(file for file in manifest.files if file.path == SHARD)
    with pytest.raises(HubUnavailable, match=f"storage answered {status}"), client.opened(manifest, large, 0):
        pass


def test_a_hub_whose_list_leads_out_of_the_folder_is_not_followed(hub: FakeHub) -> None:
    hub.files["../../etc/cron.d/x"] = b"boo"
    paths = [file.path for file in Hub(hub.endpoint).manifest("org/tiny", None).files]
    assert "../../etc/cron.d/x" not in paths
    assert "config.json" in paths
