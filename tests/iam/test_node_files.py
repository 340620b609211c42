"""A node's own role is enough to mirror, to stream and to keep what was compiled, and for nothing of another model."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpu_node.bucket import Bucket, BucketUnavailable
from gpu_node.compile_cache import CacheKey, CacheUnusable, CompileCache
from gpu_node.mirror import ClaimLost, Made, Mirror
from gpu_node.policies import NodeAccess, node_policy
from gpu_node.weights import Manifest
from rehearsal.account import REGION, Account
from rehearsal.account_server import AccountServer
from rehearsal.faults import Faults
from tests.gpu_node.fake_hub import COMMIT, weight_file
from tests.gpu_node.files import PART_BYTES
from tests.iam.test_enforcement import ROLE, House, a_role

BUCKET = "nodes-1"
BODY = random.Random(9).randbytes(PART_BYTES + 1000)
CONTENT = {"config.json": b"{}", "model.safetensors": BODY}
TABLE = f"arn:aws:dynamodb:{REGION}:123456789012:table"


@pytest.fixture
def house() -> Iterator[House]:
    account = Account(Faults())
    with AccountServer(account) as server:
        house = House(account, server.url)
        a_role(house)
        house.client("s3").create_bucket(Bucket=BUCKET)
        access = NodeAccess(
            model="tiny",
            groups=["g"],
            instances_table_arn=f"{TABLE}/instances",
            models_table_arn=f"{TABLE}/models",
            bucket_arn=f"arn:aws:s3:::{BUCKET}",
            repository="org/tiny",
        )
        statements = node_policy(access)["Statement"]
        house.allow(*({name: told for name, told in each.items() if name != "Effect"} for each in statements))
        yield house
        for client in house.opened:
            client.close()


@pytest.fixture
def bucket(house: House) -> Bucket:
    return Bucket(house.worker("s3"), BUCKET, part_bytes=PART_BYTES)


def mirror(bucket: Bucket, repository: str) -> Mirror:
    return Mirror(bucket, repository, owner="i-1", clock=lambda: 1000.0)


def make(bucket: Bucket, folder: Path, repository: str, going_on: Callable[[], bool] = lambda: True) -> Made:
    for path, body in CONTENT.items():
        (folder / path).write_bytes(body)
    manifest = Manifest(repository, COMMIT, tuple(weight_file(path, body) for path, body in CONTENT.items()))
    return mirror(bucket, repository).make(manifest, folder, revision="main", going_on=going_on)


def test_a_nodes_role_mirrors_and_reads_its_own_repository(house: House, bucket: Bucket, tmp_path: Path) -> None:
    assert mirror(bucket, "org/tiny").find(COMMIT) is None
    assert make(bucket, tmp_path, "org/tiny") is Made.MADE
    assert mirror(bucket, "org/tiny").find(COMMIT) is not None
    assert mirror(bucket, "org/tiny").commit_of("main") == COMMIT
    assert make(bucket, tmp_path, "org/tiny") is Made.THERE
    assert house.denied() == []


def test_it_goes_on_with_an_upload_that_another_node_began(house: House, bucket: Bucket, tmp_path: Path) -> None:
    asked = iter([True, False, False])
    with pytest.raises(ClaimLost):
        make(bucket, tmp_path, "org/tiny", going_on=lambda: next(asked))
    assert make(bucket, tmp_path, "org/tiny") is Made.MADE
    assert house.denied() == []
    assert "s3:ListMultipartUploadParts" in house.account.used(ROLE)


def test_it_keeps_and_restores_what_was_compiled(bucket: Bucket, tmp_path: Path) -> None:
    key = CacheKey("org/tiny", "NVIDIA L4", "vllm 0.32.0", ("serve", "org/tiny"))
    graph = tmp_path / "one/torch_compile_cache/graph"
    graph.parent.mkdir(parents=True)
    graph.write_bytes(b"compiled")
    assert CompileCache(bucket, key, tmp_path / "one").save() > 0
    assert CompileCache(bucket, key, tmp_path / "two").restore() > 0


def test_it_reaches_nothing_of_another_repository(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(BucketUnavailable, match="AccessDenied"):
        make(bucket, tmp_path, "org/tiny-2")
    with pytest.raises(CacheUnusable, match="AccessDenied"):
        CompileCache(bucket, CacheKey("org/other", "g", "v", ("serve", "x")), tmp_path).restore()
    with pytest.raises(BucketUnavailable, match="AccessDenied"):
        bucket.delete(f"weights/org--tiny/{COMMIT}.manifest")
