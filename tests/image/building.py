"""The image, built from control_plane/Dockerfile on a base that this machine can have."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import docker  # type: ignore[import-untyped]
from docker.utils.build import create_archive, exclude_paths  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
DOCKERFILE = "control_plane/Dockerfile"
TAG = "diogenes-control-plane:test"

_PUBLIC_BASE = "python:3.11-slim-bookworm"  # of the Dockerfile; taken where the daemon has it, never pulled
_OWN_BASE = "diogenes-base:bookworm"
_BASE_LIMIT_S = 900


class NoBase(Exception):
    """There is no base image and none can be made; the message says why."""


@dataclass(frozen=True)
class Built:
    """An image and what it stands on. Sizes in bytes."""

    tag: str
    size: int
    base_size: int

    @property
    def beyond_base(self) -> int:
        return self.size - self.base_size


def build(client: Any, host: str) -> Built:
    """The image in this daemon; what has not changed is taken from its cache. Raises NoBase, docker's BuildError."""
    base = _base(client, host)
    with context() as archive:
        image, _ = client.images.build(
            fileobj=archive,
            custom_context=True,
            dockerfile=DOCKERFILE,
            buildargs={"BASE": base},
            tag=TAG,
            rm=True,
            forcerm=True,
        )
    return Built(TAG, image.attrs["Size"], client.images.get(base).attrs["Size"])


def context() -> IO[bytes]:
    """What is sent to the daemon: the project without what the Dockerfile's own ignore file leaves out.

    Made here, because of the two builders only the newer one reads that file.
    """
    archive: IO[bytes] = create_archive(str(ROOT), files=context_files())
    return archive


def context_files() -> Sequence[str]:
    lines = (ROOT / f"{DOCKERFILE}.dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    return sorted(exclude_paths(str(ROOT), patterns, dockerfile=DOCKERFILE))


def _base(client: Any, host: str) -> str:
    for tag in (_PUBLIC_BASE, _OWN_BASE):
        try:
            client.images.get(tag)
        except docker.errors.ImageNotFound:
            continue
        return tag
    if os.geteuid() != 0 or not shutil.which("debootstrap") or not shutil.which("docker"):
        raise NoBase(f"no image {_PUBLIC_BASE} here; making one takes root, debootstrap and docker")
    command = [str(ROOT / "rehearsal" / "image" / "base.sh"), _OWN_BASE]
    made = subprocess.run(
        command, env={**os.environ, "DOCKER_HOST": host}, capture_output=True, text=True, timeout=_BASE_LIMIT_S
    )
    if made.returncode:
        raise NoBase(f"the base image cannot be made: {made.stderr.strip()[-500:]}")
    return _OWN_BASE
