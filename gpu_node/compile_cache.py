"""What the engine compiled, kept in the bucket: restored before it starts, saved once it answers.

    compile-cache/<owner>--<name>/<key>/<sha256>.tar.gz      one archive of the engine's cache folder
    compile-cache/<owner>--<name>/<key>/manifest             names the archive; written last

Compiled code is only good for the same GPU, model, arguments, parallelism and version of the engine; all of them are
the key. Nothing here may break a start: the methods raise CacheUnusable, and a start without a cache is only slower.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_node.bucket import Bucket, BucketUnavailable
from gpu_node.policies import cache_prefix
from gpu_node.weights import parallelism

MAX_BYTES = 2 * 1024**3
"""Of an archive, and of what it unpacks to. Some hundred MB are usual; more would take longer than compiling."""

FOLDERS = ("torch_compile_cache", "startup_plan", "flashinfer_autotune_cache")
"""Below VLLM_CACHE_ROOT, what a start spends time on; not its lists of models and downloaded assets."""

_READ_BYTES = 1024 * 1024

# What changes nothing in the code that is compiled.
_IRRELEVANT = ("--host", "--port", "--served-model-name", "--revision", "--api-key")


class CacheUnusable(Exception):
    """Nothing was restored, or saved; the message says why."""


@dataclass(frozen=True)
class CacheKey:
    """What compiled code depends on."""

    repository: str
    gpu: str  # as the driver names it
    engine: str  # name and version, or an image
    arguments: Sequence[str]  # of the engine: ``serve REPOSITORY …``

    @property
    def prefix(self) -> str:
        """In the bucket; a person can read what it is for."""
        tensor, pipeline = parallelism(self.arguments)
        told = json.dumps([self.gpu, self.engine, _relevant(self.arguments)])
        digest = hashlib.sha256(told.encode()).hexdigest()[:12]
        gpu = "".join(letter if letter.isalnum() else "-" for letter in self.gpu.lower())
        return f"{cache_prefix(self.repository)}{gpu}-tp{tensor}-pp{pipeline}-{digest}/"


class CompileCache:
    """One key's, on this machine and in the bucket."""

    def __init__(self, bucket: Bucket, key: CacheKey, root: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """``root`` is the engine's VLLM_CACHE_ROOT."""
        self._bucket = bucket
        self._prefix = key.prefix
        self._root = root
        self._max_bytes = max_bytes
        self._restored = ""  # digest of the folder as it was restored

    def restore(self) -> int:
        """Bytes of the archive that was unpacked; 0 where there is none. Raises CacheUnusable."""
        try:
            manifest = self._manifest()
            if manifest is None:
                return 0
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._root) as scratch:
                archive = Path(scratch) / "archive"
                self._fetch(manifest, archive)
                self._unpack(archive, Path(scratch) / "unpacked")
        except (BucketUnavailable, OSError, EOFError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
            raise CacheUnusable(f"the compile cache cannot be restored: {error}") from error
        self._restored = self._digest()
        return manifest.size

    def save(self) -> int:
        """Bytes of the archive that was written; 0 where nothing is new. Raises CacheUnusable."""
        try:
            now = self._digest()
            if not now or now == self._restored:
                return 0
            with tempfile.TemporaryDirectory(dir=self._root) as scratch:
                archive = Path(scratch) / "archive"
                self._pack(archive)
                size = archive.stat().st_size
                if size > self._max_bytes:
                    raise CacheUnusable(f"the compile cache is too large to keep: {size / 1e9:.1f} GB")
                name = f"{_sha256(archive)}.tar.gz"
                self._bucket.upload(self._prefix + name, archive)
                told = _Archive(name, size)
                self._bucket.put(f"{self._prefix}manifest", told.to_json())
        except (BucketUnavailable, OSError, tarfile.TarError) as error:
            raise CacheUnusable(f"the compile cache cannot be saved: {error}") from error
        self._restored = now
        return size

    def _manifest(self) -> _Archive | None:
        found = self._bucket.get(f"{self._prefix}manifest")
        return _Archive.from_json(found.body) if found else None

    def _fetch(self, manifest: _Archive, archive: Path) -> None:
        if manifest.size > self._max_bytes:
            raise ValueError("it is too large")
        digest, size = hashlib.sha256(), 0
        with self._bucket.opened(self._prefix + manifest.name) as chunks, archive.open("wb") as written:
            for chunk in chunks:
                size += len(chunk)
                if size > manifest.size:
                    break
                digest.update(chunk)
                written.write(chunk)
        if size != manifest.size or f"{digest.hexdigest()}.tar.gz" != manifest.name:
            raise ValueError("its content is not what was saved")

    def _unpack(self, archive: Path, scratch: Path) -> None:
        with tarfile.open(archive, "r:gz") as packed:
            members = packed.getmembers()
            if sum(member.size for member in members) > 4 * self._max_bytes:
                raise ValueError("it unpacks to too much")
            packed.extractall(scratch, members, filter="data")
        for folder in FOLDERS:
            if (scratch / folder).is_dir():
                shutil.rmtree(self._root / folder, ignore_errors=True)
                os.replace(scratch / folder, self._root / folder)

    def _pack(self, archive: Path) -> None:
        with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
            for folder in FOLDERS:
                if (self._root / folder).is_dir():
                    packed.add(self._root / folder, folder)

    def _digest(self) -> str:
        """Of names and sizes; empty for nothing. Compiled files are named by what they are compiled from."""
        told = sorted(
            (str(path.relative_to(self._root)), path.stat().st_size)
            for folder in FOLDERS
            for path in (self._root / folder).rglob("*")
            if path.is_file() and not path.is_symlink()
        )
        return hashlib.sha256(json.dumps(told).encode()).hexdigest() if told else ""


@dataclass(frozen=True)
class _Archive:
    name: str  # <sha256>.tar.gz
    size: int

    def to_json(self) -> bytes:
        return json.dumps({"archive": self.name, "size": self.size}).encode()

    @classmethod
    def from_json(cls, body: bytes) -> _Archive:
        told = json.loads(body)
        return cls(str(told["archive"]), int(told["size"]))


def _relevant(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments without the repository, the address and the name."""
    kept, skip = [], False
    for word in arguments[2:]:
        if not skip and word.partition("=")[0] not in _IRRELEVANT:
            kept.append(word)
        skip = not skip and word in _IRRELEVANT
    return kept


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
