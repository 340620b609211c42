"""The instance metadata service (IMDSv2) of one emulated instance, on the instance's own loopback address."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

from rehearsal.authority import Credentials
from rehearsal.server_thread import ServerThread

PORT = 1338
_TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path
_TOKEN = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name
_TOKEN_TTL = "X-aws-ec2-metadata-token-ttl-seconds"  # noqa: S105 - a header's name

_DOCUMENT = "/latest/dynamic/instance-identity/document"
_TARGET_STATE = "autoscaling/target-lifecycle-state"
_INTERRUPTION = "spot/instance-action"
_REBALANCE = "events/recommendations/rebalance"
_ROLES = "iam/security-credentials/"
_CREDENTIALS_H = 6


@dataclass(frozen=True)
class InstanceRole:
    """What an instance runs as."""

    name: str
    credentials: Credentials

    def to_json(self, now: datetime) -> str:
        """In the words of the metadata service. They never run out, so they are always good for a while from now."""
        told = {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "LastUpdated": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "Expiration": f"{now + timedelta(hours=_CREDENTIALS_H):%Y-%m-%dT%H:%M:%SZ}",
            "AccessKeyId": self.credentials.access_key_id,
            "SecretAccessKey": self.credentials.secret_access_key,
            "Token": self.credentials.session_token,
        }
        return json.dumps(told)


@dataclass(frozen=True)
class Identity:
    """What an instance can learn about itself."""

    instance_id: str
    local_ipv4: str
    zone: str
    instance_type: str
    life_cycle: str  # "on-demand" or "spot"
    role: InstanceRole | None = None
    launched_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def document(self) -> str:
        """The part of the identity document that is told, besides what has a path of its own."""
        told = {"instanceId": self.instance_id, "pendingTime": f"{self.launched_at:%Y-%m-%dT%H:%M:%SZ}"}
        return json.dumps(told)

    def lookup(self, path: str) -> str | None:
        """The answer for a path below /latest/meta-data/, or None for 404 (such as: no Spot interruption)."""
        if path.startswith(_ROLES) and self.role is not None:
            answers = {"": self.role.name, self.role.name: self.role.to_json(datetime.now(UTC))}
            return answers.get(path.removeprefix(_ROLES))
        return {
            "instance-id": self.instance_id,
            "local-ipv4": self.local_ipv4,
            "placement/availability-zone": self.zone,
            "placement/region": self.zone[:-1],
            "instance-type": self.instance_type,
            "instance-life-cycle": self.life_cycle,
        }.get(path)


class MetadataService:
    """Answers until closed. Holding the address is what makes it this instance's own: a second bind raises OSError."""

    def __init__(self, address: str, identity: Identity) -> None:
        self._server = _Server((address, PORT), _Handler)
        self._server.identity = identity
        self._server.target_state = "InService"
        self._server.notices = {}
        self._thread = ServerThread(self._server)
        self._thread.start()

    def tell_target_state(self, state: str) -> None:
        """What its group wants of the instance: InService, or Terminated."""
        self._server.target_state = state

    def tell_interruption(self, at: datetime) -> None:
        """AWS takes the Spot instance back then."""
        self._server.notices[_INTERRUPTION] = json.dumps({"action": "terminate", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"})

    def tell_rebalance(self, at: datetime) -> None:
        """AWS said then that it may take the Spot instance back."""
        self._server.notices[_REBALANCE] = json.dumps({"noticeTime": f"{at:%Y-%m-%dT%H:%M:%SZ}"})

    def close(self) -> None:
        self._thread.end()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    identity: Identity
    target_state: str
    notices: dict[str, str]  # by path

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        # One token for everybody: nothing here is worth a second one.
        self.token = secrets.token_urlsafe(24)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own would ask a name server who we are


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_PUT(self) -> None:
        if self.path != _TOKEN_PATH:
            return self._answer(404)
        if not self.headers.get(_TOKEN_TTL, "").isdigit():
            return self._answer(400)
        return self._answer(200, self.server.token)

    def do_GET(self) -> None:
        if self.headers.get(_TOKEN) != self.server.token:
            return self._answer(401)
        if self.path == _DOCUMENT:
            return self._answer(200, self.server.identity.document())
        path = self.path.removeprefix("/latest/meta-data/")
        told = {_TARGET_STATE: self.server.target_state, **self.server.notices}
        found = told.get(path) or self.server.identity.lookup(path)
        return self._answer(404) if found is None else self._answer(200, found)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it, and it would hold tokens."""

    def _answer(self, status: int, text: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
