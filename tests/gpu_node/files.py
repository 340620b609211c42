"""A bucket in an emulated S3, and what can go wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from gpu_node.bucket import Bucket
from tests.gpu_node.account import REGION

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAME = "nodes-1234567"
PART_BYTES = 5 * 1024 * 1024  # the least that S3 takes
_ONCE = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})


class Files:
    """A bucket, empty at first, on ``client``; ``deny`` and ``after`` break the node's own view of it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.client = _client(endpoint)
        self.client.create_bucket(Bucket=NAME, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        self._calls: list[str] = []

    def bucket(self, *, refuse: Callable[[str, int], bool] = lambda operation, number: False) -> Bucket:
        """As one node sees it; ``refuse`` says of each operation, and of how many of its kind it is (from 1), whether
        S3 denies it."""
        client, counts = _client(self.endpoint), dict[str, int]()

        def before(model: Any, **_: object) -> tuple[Any, Mapping[str, Any]] | None:
            counts[model.name] = counts.get(model.name, 0) + 1
            self._calls.append(model.name)
            if refuse(model.name, counts[model.name]):
                return _Denied(), {"Error": {"Code": "AccessDenied", "Message": "denied"}}
            return None

        client.meta.events.register("before-call.s3", before)  # type: ignore[arg-type]  # an answer of ours replaces AWS's
        return Bucket(client, NAME, part_bytes=PART_BYTES)

    def calls(self, operation: str) -> int:
        """How often nodes asked for this so far."""
        return self._calls.count(operation)

    def names(self) -> list[str]:
        return [each["Key"] for each in self.client.list_objects_v2(Bucket=NAME).get("Contents", [])]

    def read(self, key: str) -> bytes:
        return self.client.get_object(Bucket=NAME, Key=key)["Body"].read()

    def write(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=NAME, Key=key, Body=body)


class _Denied:
    status_code = 403


def _client(endpoint: str) -> S3Client:
    client: S3Client = boto3.client("s3", region_name=REGION, endpoint_url=endpoint, config=_ONCE)
    return client
