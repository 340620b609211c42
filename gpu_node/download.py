"""Brings files to the disk: several at a time, each resumed where it was cut, and checked before it has its name."""

from __future__ import annotations

import errno
import http.client
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path

from gpu_node.bucket import BucketUnavailable
from gpu_node.hub import HubUnavailable
from gpu_node.weights import Digest, WeightFile, WeightsFailure, shortfall

WORKERS = 8
ATTEMPTS = 6
"""In a row without a single byte more; then it is given up. What grows is tried for as long as it does."""

_PAUSES_S = (1, 2, 4, 8, 16)
_REREAD_BYTES = 4 * 1024 * 1024

Opened = Callable[[WeightFile, int], AbstractContextManager[Iterator[bytes]]]
"""A file from a place on, in chunks. May raise WeightsFailure for good, and what ``_PASSING`` lists for now."""

Progress = Callable[[int, int], None]
"""Bytes there, bytes in all."""

_PASSING = (HubUnavailable, BucketUnavailable, http.client.HTTPException, OSError)


class Download:
    """Of one set of files into one folder. What is there already, whole, is not fetched again."""

    def __init__(
        self,
        opened: Opened,
        folder: Path,
        *,
        pause: Callable[[float], None],
        progress: Progress = lambda done, total: None,
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
        workers: int = WORKERS,
    ) -> None:
        """``pause`` waits between attempts."""
        self._opened = opened
        self._folder = folder
        self._pause = pause
        self._progress = progress
        self._free_bytes = free_bytes
        self._workers = workers
        self._lock = threading.Lock()
        self._given_up = threading.Event()
        self._done = self._total = 0

    def fetch(self, files: Sequence[WeightFile]) -> None:
        """All of them. Raises WeightsFailure: the disk is too small (before anything is fetched, where that is
        known), a file has other content than the hub says, or nothing comes any more."""
        self._folder.mkdir(parents=True, exist_ok=True)
        present = {file.path: self._present(file) for file in files}
        self._check_room(files, present)
        self._done, self._total = sum(present.values()), sum(file.size for file in files)
        self._progress(self._done, self._total)
        missing = [file for file in files if not self._target(file).exists()]
        with ThreadPoolExecutor(self._workers, thread_name_prefix="weights") as pool:
            # The largest first: they end last.
            waited = [pool.submit(self._fetch, file) for file in sorted(missing, key=lambda file: -file.size)]
            done, rest = wait(waited, return_when=FIRST_EXCEPTION)
            if any(each.exception() for each in done):
                self._given_up.set()
            for each in rest:
                each.cancel()
        for each in done:
            each.result()

    def _target(self, file: WeightFile) -> Path:
        return self._folder / file.path

    def _part(self, file: WeightFile) -> Path:
        return self._folder / f"{file.path}.part"

    def _present(self, file: WeightFile) -> int:
        for path in (self._target(file), self._part(file)):
            if path.exists():
                return min(file.size, path.stat().st_size)
        return 0

    def _check_room(self, files: Sequence[WeightFile], present: dict[str, int]) -> None:
        free = self._free_bytes(self._folder)
        if lacking := shortfall(files, present, free):
            total = sum(file.size for file in files)
            raise WeightsFailure(
                "disk_full",
                f"the weights are {total / 1e9:.1f} GB, {free / 1e9:.1f} GB are free: {lacking / 1e9:.1f} GB too few",
            )

    def _fetch(self, file: WeightFile) -> None:
        self._target(file).parent.mkdir(parents=True, exist_ok=True)
        for last in (False, True):
            digest = self._whole(file)
            if file.matches(digest):
                os.replace(self._part(file), self._target(file))
                return
            self._count(-file.size)
            self._part(file).unlink()
            if last:
                raise WeightsFailure("weights_corrupt", f"{file.path} came twice with another content than announced")

    def _whole(self, file: WeightFile) -> Digest:
        """The digest of the part file once it has all its bytes."""
        digest, there, idle = file.digest(), self._begun(file), 0
        self._feed(digest, file)
        while there < file.size:
            before = there
            try:
                self._append(file, digest, before)
                reason = "the connection was cut"
            except _PASSING as error:
                reason = str(error)
                _raise_if_full(error)
            there = self._part(file).stat().st_size
            if there >= file.size:
                break
            idle = 0 if there > before else idle + 1
            if idle >= ATTEMPTS or self._given_up.is_set():
                raise WeightsFailure("weights_unavailable", f"{file.path} does not come: {reason}")
            self._pause(_PAUSES_S[min(idle, len(_PAUSES_S) - 1)])
        return digest

    def _begun(self, file: WeightFile) -> int:
        part = self._part(file)
        part.touch()
        if part.stat().st_size > file.size:  # of another revision, or of another program
            self._count(-file.size)
            os.truncate(part, 0)
        return part.stat().st_size

    def _feed(self, digest: Digest, file: WeightFile) -> None:
        with self._part(file).open("rb") as begun:
            while chunk := begun.read(_REREAD_BYTES):
                digest.update(chunk)

    def _append(self, file: WeightFile, digest: Digest, start: int) -> None:
        with self._opened(file, start) as chunks, self._part(file).open("ab", buffering=0) as part:
            for chunk in chunks:
                taken = chunk[: file.size - start]
                written = 0
                while written < len(taken):  # a disk that fills takes less than it is given
                    step = part.write(taken[written:])
                    digest.update(taken[written : written + step])
                    written += step
                start += len(taken)
                self._count(len(taken))
                if start >= file.size or self._given_up.is_set():
                    return

    def _count(self, more: int) -> None:
        with self._lock:
            self._done += more
            self._progress(self._done, self._total)


def _raise_if_full(error: BaseException) -> None:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise WeightsFailure("disk_full", "the disk filled while the weights came") from error
