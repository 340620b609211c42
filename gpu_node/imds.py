"""Who am I, and may I stay: the instance metadata service, version 2 (a token first, then the questions)."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from urllib.parse import urlsplit

from gpu_node.spot import Notice, notice

DEFAULT_ENDPOINT = "http://169.254.169.254"
_TIMEOUT_S = 2.0
_TOKEN_LIFE_S = 300


class MetadataUnavailable(Exception):
    """The metadata service did not answer, or not with what was asked."""


class NotThere(MetadataUnavailable):
    """It answered that there is no such thing."""


@dataclass(frozen=True)
class Identity:
    """This machine, as the cloud knows it."""

    instance_id: str
    ip: str  # private address; the engine listens there
    zone: str
    instance_type: str
    market: str  # "on-demand" or "spot"
    launched_at: float = 0.0  # Unix seconds; 0: not told


def endpoint(environ: Mapping[str, str]) -> str:
    """Where the service is; the SDK's own variable moves it."""
    return environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or DEFAULT_ENDPOINT


def identify(base: str) -> Identity:
    """Ask the service at ``base``. Raises MetadataUnavailable."""
    get = _session(base)
    return Identity(
        instance_id=get("meta-data/instance-id"),
        ip=get("meta-data/local-ipv4"),
        zone=get("meta-data/placement/availability-zone"),
        instance_type=get("meta-data/instance-type"),
        market="spot" if get("meta-data/instance-life-cycle") == "spot" else "on-demand",
        launched_at=_launched_at(get),
    )


def taken_down(base: str) -> bool:
    """Has the machine's Auto Scaling group begun to take it down? Raises MetadataUnavailable, outside a group too."""
    return _session(base)("meta-data/autoscaling/target-lifecycle-state") == "Terminated"


def spot_notice(base: str) -> Notice:
    """What AWS has announced to this Spot instance. Raises MetadataUnavailable."""
    get = _session(base)
    try:
        return notice(
            _told(get, "meta-data/spot/instance-action"), _told(get, "meta-data/events/recommendations/rebalance")
        )
    except ValueError as error:
        raise MetadataUnavailable(f"a Spot notice cannot be read: {error}") from error


def _launched_at(get: Callable[[str], str]) -> float:
    """When the machine was launched, by its identity document; 0 where that cannot be read: no start fails for it."""
    try:
        document = json.loads(get("dynamic/instance-identity/document"))
        return datetime.fromisoformat(str(document["pendingTime"]).replace("Z", "+00:00")).timestamp()
    except (MetadataUnavailable, KeyError, TypeError, ValueError):
        return 0.0


def _told(get: Callable[[str], str], path: str) -> str | None:
    """None where there is no such thing, which is how AWS says that nothing is announced."""
    try:
        return get(path)
    except NotThere:
        return None


def _session(base: str) -> Callable[[str], str]:
    """What answers questions below ``/latest/``, for as long as a token lives."""
    token = _ask(base, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_LIFE_S)})
    headers = {"X-aws-ec2-metadata-token": token}
    return lambda path: _ask(base, "GET", f"/latest/{path}", headers)


def _ask(base: str, method: str, path: str, headers: Mapping[str, str]) -> str:
    address = urlsplit(base)
    # Not urllib's opener: a proxy set for the machine must not be asked about the machine.
    connection = http.client.HTTPConnection(address.hostname or "", address.port or 80, timeout=_TIMEOUT_S)
    try:
        connection.request(method, address.path.rstrip("/") + path, headers=dict(headers))
        response = connection.getresponse()
        body = response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise MetadataUnavailable(f"{method} {path}: {error}") from error
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        kind = NotThere if response.status == HTTPStatus.NOT_FOUND else MetadataUnavailable
        raise kind(f"{method} {path}: status {response.status}")
    return body.strip()
