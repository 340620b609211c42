"""Which files of a repository an engine needs, by which road they reach it, and what must hold before. Pure.

A road is told by the model's configuration and by what the bucket holds already:

    hub          from Hugging Face to the node's disk, at every start
    s3, first    the same, and once the engine answers, from the disk into the bucket: the mirror
    s3, later    from the mirror straight into the GPUs; where the engine cannot stream, to the disk
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, Protocol

RESERVE_BYTES = 2 * 1024**3
"""What stays free on the disk besides the weights: caches that are compiled, logs."""

STREAM_CONCURRENCY = 32
"""Connections of the streamer to S3: what its makers measured best with on one instance."""

_STREAM_MEMORY_SHARE = 0.4  # of the machine's memory, for what is read and not yet on a GPU

_LEFT_OUT = frozenset(
    {".md", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".pdf", ".mp4", ".gguf", ".onnx", ".onnx_data", ".h5", ".msgpack"}
    | {".ot", ".tflite", ".mlmodel", ".npz", ".parquet", ".zip", ".tar", ".gz", ".gitattributes", ".gitignore"}
)
_LEFT_OUT_FOLDERS = frozenset({"original", "onnx", "openvino", "coreml", "metal", "runs", "checkpoints"})
_OLDER_FORMS = frozenset({".bin", ".pt", ".pth", ".ckpt"})
_NEWEST_FORM = ".safetensors"

# An operator who sets one of these has reasons of his own; he is not streamed past.
_OWN_LOADING = frozenset({"--load-format", "--model-loader-extra-config", "--download-dir", "--tokenizer-mode"})


class WeightsFailure(Exception):
    """The weights cannot be had. ``code`` is what phases.py knows it by; the message is one sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Source(StrEnum):
    """Where a model's weights come from, as it is configured."""

    HUB = "hub"
    S3 = "s3"


class Road(StrEnum):
    """How they come this time."""

    FETCH = "fetch"  # hub -> disk
    COPY = "copy"  # mirror -> disk
    STREAM = "stream"  # mirror -> GPU


class Digest(Protocol):
    """Of hashlib's."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


@dataclass(frozen=True)
class WeightFile:
    """One file of a repository."""

    path: str  # relative, as the hub spells it
    size: int  # bytes
    sha256: str = ""  # of a large file
    blob_id: str = ""  # of any other: git's name for its content

    def digest(self) -> Digest:
        """What its bytes have to be told to, in order."""
        if self.sha256 or not self.blob_id:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)  # git's own

    def matches(self, digest: Digest) -> bool:
        """Whether a digest that was told all bytes is this file's; true where the hub names none."""
        expected = self.sha256 or self.blob_id
        return not expected or digest.hexdigest() == expected

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "size": self.size, "sha256": self.sha256, "blob_id": self.blob_id}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> WeightFile:
        """Raises ValueError for a path that leads out of the repository."""
        path = str(told["path"])
        if not is_inside(path):
            raise ValueError(f"{path!r} is no path inside a repository")
        return cls(path, int(told["size"]), str(told.get("sha256") or ""), str(told.get("blob_id") or ""))


@dataclass(frozen=True)
class Manifest:
    """The files of one commit that an engine needs."""

    repository: str
    commit: str
    files: Sequence[WeightFile]

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def is_streamable(self) -> bool:
        """Only this one form of weights can be read tensor by tensor."""
        return any(file.path.endswith(_NEWEST_FORM) for file in self.files)

    def to_json(self) -> bytes:
        files = [file.to_dict() for file in self.files]
        return json.dumps({"repository": self.repository, "commit": self.commit, "files": files}).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Manifest:
        """Raises ValueError for what is no manifest."""
        try:
            told = json.loads(body)
            files = tuple(WeightFile.from_dict(each) for each in told["files"])
            return cls(str(told["repository"]), str(told["commit"]), files)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no manifest: {error!r}") from error


def is_inside(path: str) -> bool:
    """Whether a path of the hub stays in its folder."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts


def needed(files: Iterable[WeightFile]) -> Sequence[WeightFile]:
    """Those that an engine reads: configuration, tokenizer, code, and the weights in one form only.

    What is left out by mistake costs time and no start: on the road from the hub, the engine fetches it itself.
    """
    kept = [file for file in files if _is_wanted(PurePosixPath(file.path))]
    newest = [file for file in kept if file.path.endswith(_NEWEST_FORM)]
    if not newest:
        return tuple(kept)
    # Mistral's repositories hold the same weights twice, under a name of their own and under everybody's.
    twice = {file.path for file in newest if PurePosixPath(file.path).name.startswith("consolidated")}
    twice = twice if len(twice) < len(newest) else set()
    return tuple(
        file for file in kept if PurePosixPath(file.path).suffix not in _OLDER_FORMS and file.path not in twice
    )


def _is_wanted(path: PurePosixPath) -> bool:
    if path.name.startswith(".") or path.suffix.lower() in _LEFT_OUT:
        return False
    return not _LEFT_OUT_FOLDERS.intersection(path.parts[:-1])


def shortfall(files: Iterable[WeightFile], present: Mapping[str, int], free_bytes: int) -> int:
    """Bytes that the disk lacks for what is still to come; ``present`` tells how much of each path is there."""
    missing = sum(max(0, file.size - present.get(file.path, 0)) for file in files)
    return max(0, missing + RESERVE_BYTES - free_bytes) if missing else 0


def road(source: Source, *, mirrored: Manifest | None, arguments: Sequence[str]) -> Road:
    """By which road they come. ``arguments`` are the engine's."""
    if source is Source.HUB or mirrored is None:
        return Road.FETCH
    own = {word.split("=", 1)[0] for word in arguments} & _OWN_LOADING
    return Road.COPY if own or not mirrored.is_streamable else Road.STREAM


# -- the engine's command line -------------------------------------------------------------------------------------


def value_of(arguments: Sequence[str], *flags: str) -> str | None:
    """The last value that a flag is given, as ``--flag value`` or ``--flag=value``."""
    found = None
    for place, word in enumerate(arguments):
        name, given, value = word.partition("=")
        if name in flags:
            following = arguments[place + 1] if place + 1 < len(arguments) else None
            found = value if given else following
    return found


def parallelism(arguments: Sequence[str]) -> tuple[int, int]:
    """Tensor and pipeline parallelism; 1 for what is not told, or is no number."""
    told = (
        value_of(arguments, "--tensor-parallel-size", "-tp"),
        value_of(arguments, "--pipeline-parallel-size", "-pp"),
    )
    tensor, pipeline = (int(text) if text and text.isdigit() else 1 for text in told)
    return tensor, pipeline


def pinned(arguments: Sequence[str], commit: str) -> Sequence[str]:
    """``serve REPOSITORY …`` of exactly the commit that was fetched, so that the hub is not asked for a newer one."""
    return [*_without(arguments, "--revision"), "--revision", commit]


def streamed(arguments: Sequence[str], address: str, *, memory_bytes: int) -> Sequence[str]:
    """``serve REPOSITORY …`` from ``address``, an ``s3://`` folder, instead."""
    told: dict[str, object] = {"concurrency": STREAM_CONCURRENCY}
    if memory_bytes:
        told["memory_limit"] = int(memory_bytes * _STREAM_MEMORY_SHARE)
    tensor, _ = parallelism(arguments)
    if tensor > 1 and "--enforce-eager" not in arguments:
        told["distributed"] = True  # each GPU's process reads its share, and they exchange the rest
    verb, _, *rest = _without(arguments, "--revision")
    flags = ["--load-format", "runai_streamer", "--model-loader-extra-config", json.dumps(told)]
    return [verb, address, *rest, *flags]


def _without(arguments: Sequence[str], flag: str) -> list[str]:
    kept, skip = [], False
    for word in arguments:
        if skip:
            skip = False
        elif word == flag:
            skip = True
        elif not word.startswith(f"{flag}="):
            kept.append(word)
    return kept
