"""What a node asks of its bucket: objects written once or not at all, large ones in parts that can be resumed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PART_BYTES = 64 * 1024 * 1024
"""Of an upload: 10,000 parts at most make 640 GB a file."""

UPLOADS_AT_A_TIME = 4

_CHUNK_BYTES = 1024 * 1024
_LOST = ("PreconditionFailed", "ConditionalRequestConflict")
_MISSING = ("NoSuchKey", "404")


class BucketUnavailable(Exception):
    """S3 did not answer, or refused; nothing is known about the effect."""


class Found(NamedTuple):
    """A small object."""

    body: bytes
    etag: str


class Bucket:
    """One bucket. Every method raises BucketUnavailable when S3 does not do what it is asked."""

    def __init__(self, client: S3Client, name: str, *, part_bytes: int = PART_BYTES) -> None:
        self._client = client
        self.name = name
        self._part_bytes = part_bytes

    def get(self, key: str) -> Found | None:
        """A small object, whole; None when there is none."""
        try:
            answer = self._client.get_object(Bucket=self.name, Key=key)
            return Found(answer["Body"].read(), answer["ETag"])
        except ClientError as error:
            # Who may list a part of a bucket only is told "denied" of what is not there.
            if _code(error) in _MISSING or (_code(error) == "AccessDenied" and key not in self.sizes(key)):
                return None
            raise _unavailable(error) from error
        except (BotoCoreError, OSError) as error:
            raise _unavailable(error) from error

    def put_new(self, key: str, body: bytes) -> bool:
        """Write what is not there yet; False when it is."""
        return self._put_if({"IfNoneMatch": "*"}, key, body)

    def replace(self, key: str, body: bytes, etag: str) -> bool:
        """Write over what has this ETag still; False when somebody else was faster."""
        return self._put_if({"IfMatch": etag}, key, body)

    def put(self, key: str, body: bytes) -> None:
        with _translated():
            self._client.put_object(Bucket=self.name, Key=key, Body=body)

    def delete(self, key: str) -> None:
        with _translated():
            self._client.delete_object(Bucket=self.name, Key=key)

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """Every object below a prefix, in bytes."""
        with _translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
            return {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", [])}

    @contextmanager
    def opened(self, key: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        """The bytes of an object from ``start`` on, in chunks."""
        try:
            answer = self._client.get_object(Bucket=self.name, Key=key, Range=f"bytes={start}-")
            with closing(answer["Body"]) as body:
                yield body.iter_chunks(_CHUNK_BYTES)
        except (ClientError, BotoCoreError) as error:  # not OSError: it may be of whoever writes the bytes down
            raise _unavailable(error) from error

    def upload(self, key: str, source: Path, *, each_part: Callable[[], None] = lambda: None) -> None:
        """A file, in parts that S3 checks; parts that an upload before this one brought are not sent again.

        ``each_part`` is called before each that is sent, and may raise to stop; the next upload goes on from there.
        """
        with _translated():
            size = source.stat().st_size
            if size <= self._part_bytes:
                self._client.put_object(Bucket=self.name, Key=key, Body=source.read_bytes(), ChecksumAlgorithm="SHA256")
                return
            upload_id = self._resumable(key)
            there = self._parts(key, upload_id) if upload_id else {}
            upload_id = upload_id or self._begun(key)
            parts = self._sent(_Upload(key, upload_id, source, size), there, each_part)
            self._client.complete_multipart_upload(
                Bucket=self.name,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
            )

    def _put_if(self, condition: Mapping[str, str], key: str, body: bytes) -> bool:
        try:
            self._client.put_object(Bucket=self.name, Key=key, Body=body, **condition)  # type: ignore[arg-type]
        except ClientError as error:
            # Also where the object to be replaced is gone: it is not what was read.
            if _code(error) in _LOST or _code(error) in _MISSING:
                return False
            raise _unavailable(error) from error
        except BotoCoreError as error:
            raise _unavailable(error) from error
        return True

    def _resumable(self, key: str) -> str | None:
        answer = self._client.list_multipart_uploads(Bucket=self.name, Prefix=key)
        begun = [each["UploadId"] for each in answer.get("Uploads", []) if each["Key"] == key]
        return begun[-1] if begun else None

    def _begun(self, key: str) -> str:
        answer = self._client.create_multipart_upload(Bucket=self.name, Key=key, ChecksumAlgorithm="SHA256")
        return answer["UploadId"]

    def _parts(self, key: str, upload_id: str) -> Mapping[int, tuple[int, str]]:
        pages = self._client.get_paginator("list_parts").paginate(Bucket=self.name, Key=key, UploadId=upload_id)
        return {
            each["PartNumber"]: (each["Size"], each["ETag"].strip('"'))
            for page in pages
            for each in page.get("Parts", [])
        }

    def _sent(
        self, upload: _Upload, there: Mapping[int, tuple[int, str]], each_part: Callable[[], None]
    ) -> Sequence[Mapping[str, Any]]:
        numbers = range(1, -(-upload.size // self._part_bytes) + 1)

        def send(number: int) -> Mapping[str, Any]:
            data = upload.part(number, self._part_bytes)
            checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
            etag = hashlib.md5(data, usedforsecurity=False).hexdigest()  # what S3 names a part by
            if there.get(number) != (len(data), etag):
                each_part()
                etag = self._client.upload_part(
                    Bucket=self.name,
                    Key=upload.key,
                    UploadId=upload.id,
                    PartNumber=number,
                    Body=data,
                    ChecksumSHA256=checksum,
                )["ETag"]
            return {"PartNumber": number, "ETag": etag, "ChecksumSHA256": checksum}

        with ThreadPoolExecutor(UPLOADS_AT_A_TIME, thread_name_prefix="upload") as pool:
            waited = [pool.submit(send, number) for number in numbers]
            try:
                return [each.result() for each in waited]
            finally:
                for each in waited:
                    each.cancel()


class _Upload(NamedTuple):
    key: str
    id: str
    source: Path
    size: int

    def part(self, number: int, part_bytes: int) -> bytes:
        with self.source.open("rb") as file:
            file.seek((number - 1) * part_bytes)
            return file.read(part_bytes)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError, OSError) as error:
        raise _unavailable(error) from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _unavailable(error: Exception) -> BucketUnavailable:
    """What failed, without the request that failed."""
    if isinstance(error, ClientError):
        return BucketUnavailable(f"{error.operation_name}: {_code(error)}")
    return BucketUnavailable(type(error).__name__)
