"""The Hugging Face hub as a node sees it: the files of a commit, and their bytes from any place on."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from typing import IO, Any

from gpu_node.weights import Manifest, WeightFile, WeightsFailure, is_inside, needed

ENDPOINT = "https://huggingface.co"
_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1024 * 1024
_MAX_LIST_BYTES = 64 * 1024 * 1024
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class HubUnavailable(Exception):
    """The hub, or the network to it, gave no usable answer; trying again may help."""


@dataclass(frozen=True)
class Hub:
    """One hub, asked with one token or none. Gated and missing repositories raise WeightsFailure, the rest
    HubUnavailable."""

    endpoint: str = ENDPOINT
    token: str | None = field(default=None, repr=False)
    timeout_s: float = _TIMEOUT_S

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Hub:
        """From the variables that every tool of the hub reads."""
        return cls((environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/"), environ.get("HF_TOKEN") or None)

    def manifest(self, repository: str, revision: str | None) -> Manifest:
        """The newest commit of ``revision``, and the files of it that an engine needs."""
        path = f"/api/models/{_quoted(repository)}/revision/{urllib.parse.quote(revision or 'main', safe='')}"
        with self._opened(f"{path}?blobs=true", {}) as answer:
            body = answer.read(_MAX_LIST_BYTES)
        try:
            told = json.loads(body)
            files = [_file(sibling) for sibling in told["siblings"] if is_inside(str(sibling["rfilename"]))]
            return Manifest(repository, str(told["sha"]), needed(files))
        except (KeyError, TypeError, ValueError) as error:
            raise HubUnavailable("the hub's list of files cannot be read") from error

    @contextmanager
    def opened(self, manifest: Manifest, file: WeightFile, start: int) -> Iterator[Iterator[bytes]]:
        """The bytes of a file from ``start`` on, in chunks; fewer than there are when the connection is cut."""
        path = f"/{_quoted(manifest.repository)}/resolve/{manifest.commit}/{_quoted(file.path)}"
        ranged = {"Range": f"bytes={start}-"} if start else {}
        with self._opened(path, ranged) as answer:
            # Who ignores the range begins at the beginning.
            yield _chunks(answer, skip=start if answer.status == http.client.OK else 0)

    @contextmanager
    def _opened(self, path: str, headers: Mapping[str, str]) -> Iterator[Any]:
        try:
            with self._asked(path, headers) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            error.close()
            raise (_refused(error) if self._is_hub(error.url) else _storage(error)) from error
        except (urllib.error.URLError, http.client.HTTPException) as error:
            raise HubUnavailable(f"the hub cannot be reached ({getattr(error, 'reason', error)})") from error

    def _is_hub(self, url: str) -> bool:
        """Or the storage that the hub sent us to, whose refusals say nothing of the repository."""
        return urllib.parse.urlsplit(url)[:2] == urllib.parse.urlsplit(self.endpoint)[:2]

    def _asked(self, path: str, headers: Mapping[str, str]) -> Any:
        told = urllib.parse.urlsplit(self.endpoint)
        if told.scheme != "https" and told.hostname not in _LOOPBACK:
            raise HubUnavailable(f"HF_ENDPOINT must be an https URL, not {self.endpoint}")
        request = urllib.request.Request(self.endpoint + path, headers={"User-Agent": "diogenes", **headers})  # noqa: S310
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        return urllib.request.build_opener(_OwnHostOnly).open(request, timeout=self.timeout_s)


def _quoted(path: str) -> str:
    return urllib.parse.quote(path)


def _file(sibling: Mapping[str, Any]) -> WeightFile:
    lfs = sibling.get("lfs") or {}
    return WeightFile(
        path=str(sibling["rfilename"]),
        size=int(lfs.get("size") or sibling.get("size") or 0),
        sha256=str(lfs.get("sha256") or ""),
        blob_id="" if lfs else str(sibling.get("blobId") or ""),
    )


def _chunks(answer: Any, *, skip: int) -> Iterator[bytes]:
    while chunk := answer.read(_CHUNK_BYTES):
        if skip >= len(chunk):
            skip -= len(chunk)
            continue
        yield chunk[skip:]
        skip = 0


def _refused(error: urllib.error.HTTPError) -> Exception:
    code = error.headers.get("X-Error-Code", "")
    if error.code == http.client.NOT_FOUND or code in ("RepoNotFound", "RevisionNotFound", "EntryNotFound"):
        # The hub answers 401 for a repository that is not there, so that private ones stay unknown.
        return WeightsFailure("model_not_found_on_hub", "the hub has no such repository, revision or file")
    if error.code in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        return WeightsFailure("gated_model", "the repository is gated, and the token (or its lack) gives no access")
    return HubUnavailable(f"the hub answered {error.code}")


def _storage(error: urllib.error.HTTPError) -> HubUnavailable:
    return HubUnavailable(f"the hub's storage answered {error.code}")


class _OwnHostOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but shows the token to the hub alone, not to the storage that it points to.

    control_plane/hub.py has its twin: neither part may import the other.
    """

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        again = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if again and urllib.parse.urlsplit(newurl)[:2] != urllib.parse.urlsplit(req.full_url)[:2]:
            again.remove_header("Authorization")
        return again
