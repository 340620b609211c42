"""What the Hugging Face hub tells about a repository: its ``config.json`` and the size of its weights. Read only.

``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` are honoured, as every tool of that hub does. Nothing here raises
for what the hub, or the network, answers: the outcome says what became of the question.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from enum import StrEnum
from typing import IO, Any

from control_plane.geometry import Geometry, Unread

ENDPOINT = "https://huggingface.co"
TIMEOUT_S = 5.0
"""For a connection, and for each part of an answer."""

_MAX_BYTES = 32 * 1024 * 1024  # the index of the largest models is a few MB
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Access(StrEnum):
    """What became of a question."""

    READ = "read"
    GATED = "gated"  # it exists, and this token (or none) may not read it
    MISSING = "missing"  # no such repository, revision or file; or it is private
    UNREACHABLE = "unreachable"  # the hub was not asked, or gave no answer


@dataclass(frozen=True)
class Reading:
    """A repository as far as it could be read."""

    access: Access
    told: str  # one sentence
    config: Mapping[str, Any] = field(default_factory=dict)
    weights_bytes: int | None = None  # of all safetensors; None where there is no index


@dataclass(frozen=True)
class Hub:
    """One hub, asked with one token or none."""

    endpoint: str = ENDPOINT
    token: str | None = field(default=None, repr=False)
    offline: bool = False
    timeout_s: float = TIMEOUT_S

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Hub:
        """From the variables that every tool of the hub reads."""
        return cls(
            endpoint=(environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/"),
            token=environ.get("HF_TOKEN") or None,
            offline=environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"},
        )

    def read(self, repository: str, revision: str | None = None) -> Reading:
        """What the repository's ``config.json`` and its index of weights say. Blocks for some seconds at most."""
        if self.offline:
            return Reading(Access.UNREACHABLE, "the hub was not asked: HF_HUB_OFFLINE is set")
        try:
            config = self._json(repository, revision, "config.json")
        except _Refused as refused:
            return Reading(refused.access, f"{repository}: {refused}")
        try:
            index = self._json(repository, revision, "model.safetensors.index.json")
        except _Refused:
            index = {}  # a small model has a single file and no index
        total = index.get("metadata", {}).get("total_size") if isinstance(index.get("metadata", {}), Mapping) else None
        return Reading(
            Access.READ,
            f"{repository} can be read",
            config=config,
            weights_bytes=int(total) if isinstance(total, int | float) else None,
        )

    def access(self, repository: str, revision: str | None = None) -> Reading:
        """Whether the repository can be read at all; a lack of ``config.json`` alone is none of that. Blocks for some
        seconds at most."""
        if self.offline:
            return Reading(Access.UNREACHABLE, "the hub was not asked: HF_HUB_OFFLINE is set")
        try:
            self._json(repository, revision, "config.json")
        except _Refused as refused:
            if not refused.of_file:
                return Reading(refused.access, f"{repository}: {refused}")
        return Reading(Access.READ, f"{repository} can be read")

    def _json(self, repository: str, revision: str | None, file: str) -> Mapping[str, Any]:
        path = urllib.parse.quote(f"{repository}/resolve/{revision or 'main'}/{file}")
        try:
            with self._open(f"{self.endpoint}/{path}") as answer:
                body = answer.read(_MAX_BYTES)
            told = json.loads(body)
        except urllib.error.HTTPError as error:
            error.close()
            raise _refused(error, file) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise _Refused(Access.UNREACHABLE, f"the hub could not be reached ({reason})") from error
        except ValueError:
            return {}  # not JSON: a config.json of no family that we know
        return told if isinstance(told, Mapping) else {}

    def _open(self, url: str) -> Any:
        told = urllib.parse.urlsplit(url)
        if told.scheme != "https" and told.hostname not in _LOOPBACK:
            raise _Refused(Access.UNREACHABLE, f"HF_ENDPOINT must be an https URL, not {self.endpoint}")
        request = urllib.request.Request(url, headers={"User-Agent": "diogenes"})  # noqa: S310 - checked above
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        return urllib.request.build_opener(_OwnHostOnly).open(request, timeout=self.timeout_s)


def geometry_reader(environ: Mapping[str, str]) -> Callable[[str, str | None], Geometry | Unread]:
    """For ``Deployment.parse``: a repository and its revision to its geometry, or to why it is not known.

    A hub that did not answer once is not asked again, so no network costs one timeout and not one a model.
    """
    hub = Hub.from_env(environ)
    down: list[Unread] = []

    def read(repository: str, revision: str | None) -> Geometry | Unread:
        if down:
            return down[0]
        reading = hub.read(repository, revision)
        if reading.access is Access.UNREACHABLE:
            told = reading.told.removeprefix(f"{repository}: ")  # it is said of the next ones as well
            down.append(Unread(told, asked=not hub.offline))
            return down[0]
        if reading.access is not Access.READ:
            return Unread(reading.told, asked=True)
        found = Geometry.of_config(reading.config, reading.weights_bytes)
        kind = reading.config.get("model_type", "no model_type")
        return found or Unread(f"the fit check does not know its family ({kind}) or its quantisation", asked=True)

    return read


class _Refused(Exception):
    def __init__(self, access: Access, told: str, *, of_file: bool = False) -> None:
        super().__init__(told)
        self.access = access
        self.of_file = of_file  # the repository is there, and can be read


def _refused(error: urllib.error.HTTPError, file: str) -> _Refused:
    code = error.headers.get("X-Error-Code", "")
    if error.code == 404 or code in ("RepoNotFound", "RevisionNotFound", "EntryNotFound"):
        # The hub answers 401 for a repository that is not there, so that private ones stay unknown.
        told = f"there is no such repository, revision or {file}, or it is private"
        return _Refused(Access.MISSING, told, of_file=code == "EntryNotFound")
    if error.code in (401, 403):
        return _Refused(
            Access.GATED, "it is gated, and the token (or its lack) gives no access: accept its terms on the hub"
        )
    return _Refused(Access.UNREACHABLE, f"the hub answered {error.code}")


class _OwnHostOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but shows the token to the hub alone, not to the storage that it points to.

    gpu_node/hub.py has its twin: neither part may import the other.
    """

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        again = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if again and urllib.parse.urlsplit(newurl)[:2] != urllib.parse.urlsplit(req.full_url)[:2]:
            again.remove_header("Authorization")
        return again
