"""A repository's weights in the bucket: written once, by one node, and complete or not there at all.

    weights/<owner>--<name>/<commit>/<file>…       what an engine streams
    weights/<owner>--<name>/<commit>.claim         who writes them, and until when nobody else may
    weights/<owner>--<name>/<commit>.manifest      written last: without it, there is no mirror
    weights/<owner>--<name>/refs/<revision>        the newest commit of a branch that is mirrored

The claim is written on the condition that there is none, and taken over on the condition that it is still the one that
ran out; so of two nodes that come at once, one mirrors. A node that goes away in the middle leaves the parts that it
brought, and the next one goes on from there.
"""

from __future__ import annotations

import json
import logging
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from gpu_node.bucket import Bucket, BucketUnavailable
from gpu_node.policies import weights_prefix
from gpu_node.weights import Manifest, WeightFile

CLAIM_S = 600.0
"""A claim lasts this long without a sign of life."""

log = logging.getLogger("diogenes.node")


class ClaimLost(Exception):
    """Another node has taken the claim over: it believed this one gone."""


class Made(StrEnum):
    """What became of an attempt to mirror."""

    MADE = "made"
    THERE = "there"  # complete already
    CLAIMED = "claimed"  # another node is at it


class Mirror:
    """One repository's. Every method raises BucketUnavailable."""

    def __init__(self, bucket: Bucket, repository: str, *, owner: str, clock: Callable[[], float]) -> None:
        """``owner`` is this node's id."""
        self._bucket = bucket
        self._prefix = weights_prefix(repository)
        self._owner = owner
        self._clock = clock

    def address(self, commit: str) -> str:
        """Where a streamer finds it."""
        return f"s3://{self._bucket.name}/{self._prefix}{commit}"

    def commit_of(self, revision: str) -> str | None:
        """The newest mirrored commit of a branch: what to start with while the hub is away."""
        found = self._bucket.get(self._ref(revision))
        return found.body.decode() if found else None

    def find(self, commit: str) -> Manifest | None:
        """The mirror of a commit, with every object there in its size; None where it is not (yet, or any more)."""
        found = self._bucket.get(self._manifest(commit))
        if found is None:
            return None
        try:
            manifest = Manifest.from_json(found.body)
        except ValueError:
            return None
        sizes = self._bucket.sizes(f"{self._prefix}{commit}/")
        whole = all(sizes.get(self._object(commit, file)) == file.size for file in manifest.files)
        return manifest if whole else None

    @contextmanager
    def opened(self, manifest: Manifest, file: WeightFile, start: int) -> Iterator[Iterator[bytes]]:
        """The bytes of a mirrored file from ``start`` on."""
        with self._bucket.opened(self._object(manifest.commit, file), start) as chunks:
            yield chunks

    def make(self, manifest: Manifest, folder: Path, *, revision: str, going_on: Callable[[], bool]) -> Made:
        """Bring the files in ``folder``, which were checked when they came, into the bucket.

        ``going_on`` is asked before every part; when it says no, ClaimLost is raised, and the parts stay. Raises
        ClaimLost, too, when another node has taken over.
        """
        commit = manifest.commit
        if self.find(commit):
            self._bucket.put(self._ref(revision), commit.encode())
            return Made.THERE
        claim = self._claimed(commit)
        if claim is None:
            return Made.CLAIMED
        sizes = self._bucket.sizes(f"{self._prefix}{commit}/")
        for file in manifest.files:
            claim.renew()
            if sizes.get(self._object(commit, file)) != file.size:
                self._bring(file, folder, commit, claim, going_on)
        claim.renew()
        self._bucket.put(self._manifest(commit), manifest.to_json())
        self._bucket.put(self._ref(revision), commit.encode())
        claim.release()
        return Made.MADE

    def _bring(self, file: WeightFile, folder: Path, commit: str, claim: _Claim, going_on: Callable[[], bool]) -> None:
        def each_part() -> None:
            if not going_on():
                raise ClaimLost("the engine has ended")
            claim.renew()

        self._bucket.upload(self._object(commit, file), folder / file.path, each_part=each_part)

    def _claimed(self, commit: str) -> _Claim | None:
        claim = _Claim(self._bucket, f"{self._prefix}{commit}.claim", self._owner, self._clock)
        return claim if claim.take() else None

    def _manifest(self, commit: str) -> str:
        return f"{self._prefix}{commit}.manifest"

    def _object(self, commit: str, file: WeightFile) -> str:
        return f"{self._prefix}{commit}/{file.path}"

    def _ref(self, revision: str) -> str:
        return f"{self._prefix}refs/{urllib.parse.quote(revision, safe='')}"


class _Claim:
    """The right to write one mirror, for a while."""

    def __init__(self, bucket: Bucket, key: str, owner: str, clock: Callable[[], float]) -> None:
        self._bucket = bucket
        self._key = key
        self._owner = owner
        self._clock = clock
        self._renew_at = 0.0
        self._lock = threading.Lock()  # parts are sent by several threads

    def take(self) -> bool:
        if self._bucket.put_new(self._key, self._body()):
            return True
        found = self._bucket.get(self._key)
        if found is None:  # released between the two
            return False
        if self._is_alive(found.body):
            return False
        return self._bucket.replace(self._key, self._body(), found.etag)

    def renew(self) -> None:
        """Raises ClaimLost."""
        with self._lock:
            if self._clock() < self._renew_at:
                return
            found = self._bucket.get(self._key)
            ours = found is not None and _owner(found.body) == self._owner
            if found is None or not ours or not self._bucket.replace(self._key, self._body(), found.etag):
                raise ClaimLost("another node mirrors these weights now")

    def release(self) -> None:
        try:
            self._bucket.delete(self._key)
        except BucketUnavailable as error:
            log.info("a claim stays until it runs out", extra={"reason": str(error)})

    def _is_alive(self, body: bytes) -> bool:
        """Whether another node's claim stands. This node's own, of a start before this one, does not hold it up."""
        try:
            told = json.loads(body)
            return told["owner"] != self._owner and float(told["until"]) > self._clock()
        except (KeyError, TypeError, ValueError):
            return False

    def _body(self) -> bytes:
        now = self._clock()
        self._renew_at = now + CLAIM_S / 4
        return json.dumps({"owner": self._owner, "until": now + CLAIM_S}).encode()


def _owner(body: bytes) -> str:
    try:
        return str(json.loads(body)["owner"])
    except (KeyError, TypeError, ValueError):
        return ""
