"""A mirror is made once, by one node, and is complete or not there; in an emulated S3 with real files."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from gpu_node.bucket import BucketUnavailable
from gpu_node.download import Download
from gpu_node.mirror import CLAIM_S, ClaimLost, Made, Mirror
from gpu_node.weights import RESERVE_BYTES, Manifest, WeightsFailure
from tests.gpu_node.fake_hub import COMMIT, weight_file
from tests.gpu_node.files import PART_BYTES, Files

LARGE = random.Random(7).randbytes(2 * PART_BYTES + 1000)  # three parts
CONTENT = {"config.json": b"{}", "model-1.safetensors": LARGE, "sub/model-2.safetensors": LARGE[:5000]}
MANIFEST = Manifest("org/tiny", COMMIT, tuple(weight_file(path, body) for path, body in CONTENT.items()))
HOME = f"weights/org--tiny/{COMMIT}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, body in CONTENT.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(body)
    return tmp_path


class Node:
    """One that has the weights on its disk; ``now`` is its clock."""

    def __init__(self, files: Files, folder: Path, name: str = "i-1", **trouble: Callable[[str, int], bool]) -> None:
        self.now = 1000.0
        self.folder = folder
        self.mirror = Mirror(files.bucket(**trouble), "org/tiny", owner=name, clock=lambda: self.now)

    def make(self, going_on: Callable[[], bool] = lambda: True) -> Made:
        return self.mirror.make(MANIFEST, self.folder, revision="main", going_on=going_on)


def assert_mirrored(files: Files) -> None:
    for path, body in CONTENT.items():
        assert files.read(f"{HOME}/{path}") == body
    assert Manifest.from_json(files.read(f"{HOME}.manifest")) == MANIFEST
    assert files.read("weights/org--tiny/refs/main").decode() == COMMIT
    assert f"{HOME}.claim" not in files.names()


def test_a_node_mirrors_what_it_has(files: Files, folder: Path) -> None:
    node = Node(files, folder)
    assert node.mirror.find(COMMIT) is None
    assert node.make() is Made.MADE
    assert_mirrored(files)
    assert node.mirror.find(COMMIT) == MANIFEST
    assert node.mirror.commit_of("main") == COMMIT
    assert node.mirror.commit_of("v2") is None
    assert node.mirror.address(COMMIT) == f"s3://nodes-1234567/{HOME}"


def test_of_two_nodes_at_once_one_mirrors(files: Files, folder: Path) -> None:
    together = Barrier(2)

    def at_once(name: str) -> Made:
        node = Node(files, folder, name)
        together.wait(30)
        return node.make()

    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(at_once, ["i-1", "i-2"]))
    assert made.count(Made.MADE) == 1
    assert set(made) <= {Made.MADE, Made.CLAIMED, Made.THERE}
    assert_mirrored(files)
    assert files.calls("CreateMultipartUpload") == 1
    assert files.calls("UploadPart") == 3


def test_a_node_leaves_a_mirror_to_the_one_that_is_at_it(files: Files, folder: Path) -> None:
    files.write(f"{HOME}.claim", json.dumps({"owner": "i-2", "until": 1000.0 + CLAIM_S}).encode())
    assert Node(files, folder).make() is Made.CLAIMED
    assert files.names() == [f"{HOME}.claim"]


@pytest.mark.parametrize(
    "claim", [b'{"owner": "i-2", "until": 999.0}', b"nonsense", b'{"owner": "i-1", "until": 9999}']
)
def test_a_claim_that_ran_out_or_is_its_own_is_taken_over(files: Files, folder: Path, claim: bytes) -> None:
    files.write(f"{HOME}.claim", claim)
    assert Node(files, folder).make() is Made.MADE
    assert_mirrored(files)


def test_who_loses_its_claim_stops_before_the_next_part(files: Files, folder: Path) -> None:
    node = Node(files, folder)

    def overtaken() -> bool:
        files.write(f"{HOME}.claim", json.dumps({"owner": "i-2", "until": 9e9}).encode())
        node.now += CLAIM_S
        return True

    with pytest.raises(ClaimLost):
        node.make(overtaken)
    assert f"{HOME}.manifest" not in files.names()


@pytest.mark.parametrize("operation", ["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
@pytest.mark.parametrize("number", [1, 2])
def test_wherever_a_node_fails_there_is_no_mirror_and_the_next_one_makes_it(
    files: Files, folder: Path, operation: str, number: int
) -> None:
    broken = Node(files, folder, refuse=lambda asked, count: asked == operation and count >= number)
    if (operation, number) in {("CreateMultipartUpload", 2), ("CompleteMultipartUpload", 2)}:
        broken.make()  # there is one only
    else:
        with pytest.raises(BucketUnavailable, match=f"{operation}: AccessDenied"):
            broken.make()
        assert broken.mirror.find(COMMIT) is None
    later = Node(files, folder, "i-2")
    later.now += CLAIM_S + 1
    assert later.make() in (Made.MADE, Made.THERE)
    assert_mirrored(files)


def test_an_upload_goes_on_from_the_parts_that_are_there(files: Files, folder: Path) -> None:
    asked = iter([True, True, False, False, False])
    with pytest.raises(ClaimLost, match="ended"):
        Node(files, folder).make(lambda: next(asked))
    brought = files.calls("UploadPart")
    assert brought == 2
    assert Node(files, folder).make() is Made.MADE
    assert files.calls("UploadPart") == 3
    assert files.calls("CreateMultipartUpload") == 1
    assert_mirrored(files)


def test_parts_of_another_content_are_sent_again(files: Files, folder: Path) -> None:
    bucket = files.bucket()
    (folder / "other").write_bytes(bytes(len(LARGE)))
    asked = iter([True, True, False])

    def each_part() -> None:
        if not next(asked):
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        bucket.upload(f"{HOME}/model-1.safetensors", folder / "other", each_part=each_part)
    assert Node(files, folder).make() is Made.MADE
    assert_mirrored(files)


@pytest.mark.parametrize("damage", ["gone", "short", "unreadable"])
def test_a_mirror_that_was_damaged_is_none_and_is_made_again(files: Files, folder: Path, damage: str) -> None:
    Node(files, folder).make()
    match damage:
        case "gone":
            files.client.delete_object(Bucket="nodes-1234567", Key=f"{HOME}/config.json")
        case "short":
            files.write(f"{HOME}/model-1.safetensors", b"short")
        case _:
            files.write(f"{HOME}.manifest", b"nonsense")
    node = Node(files, folder)
    assert node.mirror.find(COMMIT) is None
    assert node.make() is Made.MADE
    assert_mirrored(files)


def test_a_complete_mirror_is_not_written_again(files: Files, folder: Path) -> None:
    Node(files, folder).make()
    before = files.calls("UploadPart")
    assert Node(files, folder, "i-2").make() is Made.THERE
    assert files.calls("UploadPart") == before


def test_who_may_list_its_own_files_only_is_denied_what_is_not_there(files: Files, folder: Path) -> None:
    denied = Node(files, folder, refuse=lambda asked, _: asked == "GetObject")
    assert denied.mirror.commit_of("main") is None
    Node(files, folder).make()
    with pytest.raises(BucketUnavailable, match="AccessDenied"):
        denied.mirror.commit_of("main")


# -- back to a disk --------------------------------------------------------------------------------------------------


def test_a_mirror_is_copied_to_a_disk_and_checked(files: Files, folder: Path, tmp_path: Path) -> None:
    node = Node(files, folder)
    node.make()
    copy = tmp_path / "copy"
    (copy / "model-1.safetensors.part").parent.mkdir()
    (copy / "model-1.safetensors.part").write_bytes(LARGE[:1234])
    fetched(node, copy)
    assert {path: (copy / path).read_bytes() for path in CONTENT} == CONTENT


def test_a_mirror_with_other_bytes_is_not_loaded_from_a_disk(files: Files, folder: Path, tmp_path: Path) -> None:
    node = Node(files, folder)
    node.make()
    files.write(f"{HOME}/model-1.safetensors", bytes(len(LARGE)))
    with pytest.raises(WeightsFailure) as raised:
        fetched(node, tmp_path / "copy")
    assert raised.value.code == "weights_corrupt"


def test_a_mirror_that_is_denied_is_not_waited_for(files: Files, folder: Path, tmp_path: Path) -> None:
    Node(files, folder).make()
    with pytest.raises(WeightsFailure) as raised:
        fetched(Node(files, folder, refuse=lambda asked, _: asked == "GetObject"), tmp_path / "copy")
    assert raised.value.code == "weights_unavailable"


def fetched(node: Node, folder: Path) -> None:
    Download(
        lambda file, start: node.mirror.opened(MANIFEST, file, start),
        folder,
        pause=lambda _: None,
        free_bytes=lambda _: 2 * RESERVE_BYTES,
    ).fetch(MANIFEST.files)
