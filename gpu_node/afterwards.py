"""What a node does for the starts that come after its own, once its engine answers: it keeps what was compiled, and
mirrors the weights. Beside the engine, at the lowest priority; nothing here can hurt it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gpu_node.bucket import BucketUnavailable
from gpu_node.compile_cache import CacheUnusable
from gpu_node.mirror import ClaimLost, Made
from gpu_node.weights import Manifest

POLL_S = 1.0


class Saving(Protocol):
    """See compile_cache.CompileCache."""

    def save(self) -> int: ...


class Mirroring(Protocol):
    """See mirror.Mirror."""

    def make(self, manifest: Manifest, folder: Path, *, revision: str, going_on: Callable[[], bool]) -> Made: ...


@dataclass(frozen=True)
class ToMirror:
    """Weights on the disk that the bucket has not got yet."""

    mirror: Mirroring
    manifest: Manifest
    folder: Path
    revision: str


@dataclass(frozen=True)
class Afterwards:
    """What is to be done; None for what is not."""

    cache: Saving | None = None
    weights: ToMirror | None = None

    def __bool__(self) -> bool:
        return self.cache is not None or self.weights is not None

    def run(
        self,
        *,
        healthy: Callable[[], bool],
        alive: Callable[[], bool],
        pause: Callable[[float], None],
        say: Callable[[str], None],
    ) -> None:
        """Waits until the engine is ``healthy``, for as long as it is ``alive``. What fails is said, and left."""
        while not healthy():
            if not alive():
                return
            pause(POLL_S)
        # The cache first: it is small, and each start misses it; the weights only cost the next one some minutes.
        if self.cache:
            self._save(self.cache, say)
        if self.weights:
            self._mirror(self.weights, alive, say)

    def _save(self, cache: Saving, say: Callable[[str], None]) -> None:
        try:
            size = cache.save()
        except CacheUnusable as error:
            say(str(error))
        else:
            say(f"the compile cache is saved: {size / 1e6:.1f} MB" if size else "the compile cache holds nothing new")

    def _mirror(self, weights: ToMirror, alive: Callable[[], bool], say: Callable[[str], None]) -> None:
        try:
            made = weights.mirror.make(weights.manifest, weights.folder, revision=weights.revision, going_on=alive)
        except (BucketUnavailable, ClaimLost, OSError) as error:
            say(f"the weights are not mirrored: {error}")
        else:
            said = {
                Made.MADE: f"the weights are mirrored: {weights.manifest.total_bytes / 1e9:.1f} GB",
                Made.THERE: "the weights are mirrored already",
                Made.CLAIMED: "another node mirrors the weights",
            }
            say(said[made])
