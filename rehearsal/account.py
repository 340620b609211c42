"""The account: moto's services behind one lock, with what moto lacks, spoken to over HTTP.

One lock around every call makes conditional writes atomic, which moto's own server is not: under concurrency it
loses some. Handled here and not by moto: the operations of ``groups`` and ``launch_api``, faults, the call counters.
"""

from __future__ import annotations

import io
import logging
import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl

from moto.backends import get_backend
from moto.core.base_backend import BackendDict
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from gpu_node.protocol import from_attributes
from rehearsal import answers
from rehearsal.answers import Answer
from rehearsal.faults import Faults
from rehearsal.groups import ApiError, Groups, Member
from rehearsal.launch_api import LaunchApi

REGION = "us-east-1"

Params = Mapping[str, str]
_Environ = dict[str, Any]
_App = Callable[[_Environ, Any], Iterable[bytes]]


@dataclass(frozen=True)
class _Call:
    service: str
    operation: str
    params: Params  # of the query protocol; empty for the others

    @property
    def name(self) -> str:
        return f"{self.service}:{self.operation}"


class Account:
    """One account in one region, empty at first. One per process: moto keeps its records in module globals."""

    def __init__(self, faults: Faults, *, mint: Callable[[], str] = lambda: str(uuid.uuid4())) -> None:
        os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"  # half a second, for images that nobody starts
        BackendDict.reset()
        self.changed = threading.Event()
        self._faults = faults
        self._mint = mint
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._apps: dict[str, _App] = {}
        self._groups = Groups(REGION, faults=faults, mint=mint)
        self._launch_api = LaunchApi(self._groups)
        self._handlers: dict[str, Callable[[Params], str]] = {
            "autoscaling:LaunchInstances": self._launch_instances,
            "autoscaling:SetDesiredCapacity": self._set_desired_capacity,
            "autoscaling:TerminateInstanceInAutoScalingGroup": self._terminate_instance,
            "autoscaling:DescribeScalingActivities": self._describe_activities,
            "ec2:TerminateInstances": self._terminate_instances,
        }

    # -- over HTTP ---------------------------------------------------------------------------------------------

    def __call__(self, environ: _Environ, start_response: Any) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length) if length else b""
        environ["wsgi.input"] = io.BytesIO(body)
        call = _read_call(environ, body)
        with self._lock:
            self._counts[call.name] += 1
            if self._strikes("throttle", call):
                return answers.throttled(call.service).send(start_response)
            if self._strikes("fail", call):
                return answers.internal_failure(call.service).send(start_response)
            answer = self._answer(call, environ)
            if self._strikes("lose_reply", call):
                answer = answers.internal_failure(call.service)
        return answer.send(start_response)

    def _strikes(self, kind: str, call: _Call) -> bool:
        hits = [fault for fault in self._faults.pending(kind) if fault.what == call.name]
        return bool(hits) and self._faults.use(hits[0])

    def _answer(self, call: _Call, environ: _Environ) -> Answer:
        handler = self._handlers.get(call.name)
        if handler is None:
            return self._ask_moto(call, environ)
        try:
            text = handler(call.params)
        except ApiError as error:
            return answers.refused(call.service, error.code, error.message)
        self.changed.set()
        return Answer(200, "text/xml", text.encode())

    def _ask_moto(self, call: _Call, environ: _Environ) -> Answer:
        app = self._apps.get(call.service)
        if app is None:
            # Finding the application costs moto a walk over all its services, so remember it.
            app = self._apps[call.service] = self._moto.get_application(environ)
        line, headers = "", list[tuple[str, str]]()

        def start(status: str, fields: list[tuple[str, str]], _error: object = None, /) -> Callable[[bytes], object]:
            nonlocal line, headers
            line, headers = status, fields
            return lambda _: None

        body = b"".join(app(environ, start))
        return Answer.of_wsgi(line, headers, body)

    # -- what moto lacks ---------------------------------------------------------------------------------------

    def _launch_instances(self, params: Params) -> str:
        return answers.launch_instances(self._launch_api.launch(params), request_id=self._mint())

    def _set_desired_capacity(self, params: Params) -> str:
        self._groups.set_desired(params.get("AutoScalingGroupName", ""), int(params.get("DesiredCapacity", "0")))
        return answers.autoscaling("SetDesiredCapacity", "", request_id=self._mint())

    def _terminate_instance(self, params: Params) -> str:
        decrement = params.get("ShouldDecrementDesiredCapacity", "false").lower() == "true"
        activity = self._groups.terminate(params.get("InstanceId", ""), decrement=decrement)
        body = f"<Activity>{answers.activity(activity)}</Activity>"
        return answers.autoscaling("TerminateInstanceInAutoScalingGroup", body, request_id=self._mint())

    def _describe_activities(self, params: Params) -> str:
        found = self._groups.activities(params.get("AutoScalingGroupName"))[: int(params.get("MaxRecords", "100"))]
        items = "".join(f"<member>{answers.activity(activity)}</member>" for activity in found)
        body = f"<Activities>{items}</Activities>"
        return answers.autoscaling("DescribeScalingActivities", body, request_id=self._mint())

    def _terminate_instances(self, params: Params) -> str:
        ids = [value for key, value in params.items() if key.startswith("InstanceId.")]
        known = {member.id for member in self._groups.members()}
        if unknown := [instance_id for instance_id in ids if instance_id not in known]:
            raise ApiError("InvalidInstanceID.NotFound", f"The instance IDs '{', '.join(unknown)}' do not exist")
        for instance_id in ids:
            self._groups.died(instance_id)
        return answers.terminate_instances(ids, request_id=self._mint())

    # -- from inside -------------------------------------------------------------------------------------------

    def members(self) -> Sequence[Member]:
        """Every instance that a group lists, dead or alive."""
        with self._lock:
            return self._groups.members()

    def desired(self, group: str) -> int:
        with self._lock:
            return self._groups.desired(group)

    def booted(self, instance_id: str) -> None:
        """Raises ApiError when no group has the instance any more."""
        with self._lock:
            self._groups.booted(instance_id)

    def died(self, instance_id: str) -> None:
        """The instance ended by itself. Raises ApiError when no group has it any more."""
        with self._lock:
            self._groups.died(instance_id)
        self.changed.set()

    def row(self, table: str, key: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """One row of a table, as plain values; the key as attribute values."""
        with self._lock:
            backend: Any = get_backend("dynamodb")[DEFAULT_ACCOUNT_ID][REGION]
            item = backend.get_item(table, key)
            return None if item is None else from_attributes(item.to_json()["Attributes"])

    def calls(self) -> Mapping[str, int]:
        """How often each service:Operation was called."""
        with self._lock:
            return dict(self._counts)


class AccountServer(AbstractContextManager["AccountServer"]):
    """The account on a free port of this machine."""

    def __init__(self, account: Account) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = make_server("127.0.0.1", 0, account, threaded=True, request_handler=_Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> AccountServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # keep connections
    disable_nagle_algorithm = True  # headers and body leave apart: with Nagle, each answer waits 40 ms for an ACK
    wbufsize = -1

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Thousands of lines that nobody reads; the account counts calls."""


def _read_call(environ: Mapping[str, Any], body: bytes) -> _Call:
    """What is asked: by the signature's scope, and by the target header or the form."""
    scope = str(environ.get("HTTP_AUTHORIZATION", "")).split("/", 5)
    service = scope[3] if len(scope) > 3 else ""
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return _Call(service, str(target).rpartition(".")[2], {})
    if str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded"):
        params = dict(parse_qsl(body.decode(), keep_blank_values=True))
        return _Call(service, params.get("Action", ""), params)
    return _Call(service, f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}", {})
