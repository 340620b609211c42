"""The account: moto's services behind one lock, with what moto lacks, spoken to over HTTP.

One lock around every call makes conditional writes atomic, which moto's own server is not: under concurrency it
loses some. Handled here and not by moto: the operations of ``groups`` and ``launch_api``, faults, the call counters,
and what roles may do (``authority``).
"""

from __future__ import annotations

import io
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import urlencode

from moto.backends import get_backend
from moto.core.base_backend import BackendDict
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from gpu_node.protocol import from_attributes
from rehearsal import answers, dashboard, transactions
from rehearsal.answers import Answer
from rehearsal.authority import Authority, Credentials, Denial
from rehearsal.calls import Call, Params
from rehearsal.ecs_records import End, Tasks
from rehearsal.faults import Faults
from rehearsal.groups import ApiError, Groups, Member, Sizes
from rehearsal.hooks import HookSpec
from rehearsal.iam import Grant
from rehearsal.launch_api import LaunchApi

REGION = "us-east-1"

_Environ = dict[str, Any]
_App = Callable[[_Environ, Any], Iterable[bytes]]


class AccountOpen(Exception):
    """There is an account in this process already."""


@dataclass(frozen=True)
class Mail:
    """What a topic's subscribers got."""

    subject: str
    text: str


class Account:
    """One account in one region, empty at first.

    One per process: moto keeps its records in module globals, so that a second one would empty the first, and then
    share everything with it. Raises AccountOpen while the server of another is open.
    """

    opened: ClassVar[str] = ""
    """Where this process's account is served, while it is."""

    def __init__(
        self,
        faults: Faults,
        *,
        mint: Callable[[], str] = lambda: str(uuid.uuid4()),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if Account.opened:
            raise AccountOpen(f"an account is open in this process, at {Account.opened}")
        os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"  # half a second, for images that nobody starts
        BackendDict.reset()
        dashboard.close()
        transactions.spare()
        self.changed = threading.Event()
        self._faults = faults
        self._mint = mint
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._target_states: dict[str, str | None] = {}  # by address
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._apps: dict[str, _App] = {}
        self._groups = Groups(REGION, faults=faults, mint=mint, clock=clock)
        self._launch_api = LaunchApi(self._groups)
        self._authority = Authority(REGION)
        self._tasks = Tasks(REGION, clock=partial(datetime.now, UTC))
        self._handlers: dict[str, Callable[[Params], str]] = {
            "autoscaling:LaunchInstances": self._launch_instances,
            "autoscaling:SetDesiredCapacity": self._set_desired_capacity,
            "autoscaling:TerminateInstanceInAutoScalingGroup": self._terminate_instance,
            "autoscaling:CompleteLifecycleAction": self._complete_action,
            "autoscaling:DeleteAutoScalingGroup": self._delete_group,
            "autoscaling:DescribeScalingActivities": self._describe_activities,
            "ec2:TerminateInstances": self._terminate_instances,
        }

    # -- over HTTP ---------------------------------------------------------------------------------------------

    def __call__(self, environ: _Environ, start_response: Any) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length) if length else b""
        environ["wsgi.input"] = io.BytesIO(body)
        call = Call.read(environ, body)
        with self._lock:
            self._counts[call.name] += 1
            self._groups.settle()
            if self._strikes("throttle", call):
                return answers.throttled(call.service).send(start_response)
            if self._strikes("fail", call):
                return answers.internal_failure(call.service).send(start_response)
            if denial := self._authority.refusal(call):
                return answers.denied(call.service, str(denial)).send(start_response)
            answer = self._answer(call, environ)
            if self._strikes("lose_reply", call):
                answer = answers.internal_failure(call.service)
        return answer.send(start_response)

    def _strikes(self, kind: str, call: Call) -> bool:
        hits = [fault for fault in self._faults.pending(kind) if fault.what == call.name]
        return bool(hits) and self._faults.use(hits[0])

    def _answer(self, call: Call, environ: _Environ) -> Answer:
        handler = self._handlers.get(call.name)
        try:
            if call.name == "autoscaling:UpdateAutoScalingGroup":
                return self._update_group(call, environ)
            if handler is None:
                return self._told(call, self._ask_moto(call, environ))
            text = handler(call.params)
        except ApiError as error:
            return answers.refused(call.service, error.code, error.message)
        self.changed.set()
        return Answer(200, "text/xml", text.encode())

    def _ask_moto(self, call: Call, environ: _Environ) -> Answer:
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

    def _told(self, call: Call, answer: Answer) -> Answer:
        """What moto was told, and others have to know as well."""
        group = call.params.get("AutoScalingGroupName", "")
        if answer.status == HTTPStatus.OK and call.name == "autoscaling:CreateAutoScalingGroup":
            self._groups.add_hooks(group, HookSpec.parse_all(call.params))
        if answer.status == HTTPStatus.OK and call.name == "autoscaling:DeleteLifecycleHook":
            self._groups.drop_hook(group, call.params.get("LifecycleHookName", ""))
        if answer.status == HTTPStatus.OK and call.name == "autoscaling:SetInstanceProtection":
            self._groups.shrink(group)
        if answer.status == HTTPStatus.OK and call.name == "ecs:UpdateService":
            self._tasks.pin(call.document)
        return answer

    # -- what moto lacks ---------------------------------------------------------------------------------------

    def _update_group(self, call: Call, environ: _Environ) -> Answer:
        """Moto keeps everything but the sizes; and an update that names no template leaves the template."""
        name = call.params.get("AutoScalingGroupName", "")
        policy = self._groups.find(name).mixed_instances_policy
        self._groups.resize(name, Sizes.parse(call.params))
        form = urlencode({key: value for key, value in call.params.items() if key not in Sizes.PARAMETERS}).encode()
        sizeless = environ | {"wsgi.input": io.BytesIO(form), "CONTENT_LENGTH": str(len(form))}
        answer = self._ask_moto(call, sizeless)
        if not any(key.startswith(("MixedInstancesPolicy.", "LaunchTemplate.")) for key in call.params):
            self._groups.find(name).mixed_instances_policy = policy
        self.changed.set()
        return answer

    def _delete_group(self, params: Params) -> str:
        force = params.get("ForceDelete", "false").lower() == "true"
        self._groups.delete(params.get("AutoScalingGroupName", ""), force=force)
        return answers.autoscaling("DeleteAutoScalingGroup", "", request_id=self._mint())

    def _complete_action(self, params: Params) -> str:
        """Whatever the result: on termination, both lead to the end."""
        self._groups.complete(
            params.get("AutoScalingGroupName", ""),
            hook=params.get("LifecycleHookName", ""),
            instance_id=params.get("InstanceId", ""),
        )
        return answers.autoscaling("CompleteLifecycleAction", "", request_id=self._mint())

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
            self._groups.settle()
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

    def weights(self, listener: str) -> Mapping[str, int]:
        """The weight of each target group that the listener, by ARN, forwards to."""
        with self._lock:
            (found,) = get_backend("elbv2")[DEFAULT_ACCOUNT_ID][REGION].describe_listeners(None, [listener])
            (action,) = found.default_actions
            groups = action.data["ForwardConfig"]["TargetGroups"]
            return {group["TargetGroupArn"]: int(group["Weight"]) for group in groups}

    def mails(self) -> Sequence[Mail]:
        """Everything that was published by SNS, each topic's oldest first."""
        with self._lock:
            topics = get_backend("sns")[DEFAULT_ACCOUNT_ID][REGION].topics.values()
            sent = [one for topic in topics for one in topic.sent_notifications]
            return [Mail(subject or "", message) for _, message, subject, *_ in sent]

    def tasks(self, cluster: str, service: str) -> int:
        """How many tasks the service shall run."""
        with self._lock:
            return self._tasks.desired(cluster, service)

    def task_environment(self, cluster: str, service: str) -> Mapping[str, str]:
        """The variables of the service's container, by the task definition that it has now."""
        with self._lock:
            return self._tasks.environment(cluster, service)

    def begin_task(self, cluster: str, service: str) -> str:
        """ECS shows one more; its ARN."""
        with self._lock:
            return self._tasks.begin(cluster, service)

    def end_task(self, arn: str, end: End, exit_code: int | None) -> None:
        """ECS shows it as stopped, for an hour."""
        with self._lock:
            self._tasks.end(arn, end, exit_code)

    def show_target(self, group: str, address: str, state: str | None) -> None:
        """In the target group, by ARN, in this of AWS's states; None: not there any more. Twice is once."""
        with self._lock:
            backend: Any = get_backend("elbv2")[DEFAULT_ACCOUNT_ID][REGION]
            found = backend.target_groups[group]
            self._target_states[address] = state
            found.health_for = self._health_for(found.health_for)
            if state and address not in found.targets:
                backend.register_targets(group, [{"Id": address}])
            elif not state and address in found.targets:
                backend.deregister_targets(group, [{"Id": address}])

    def _health_for(self, answer: Any) -> Any:
        """moto finds every target healthy."""
        if hasattr(answer, "states"):
            return answer

        def health_for(target: Mapping[str, Any], ec2: Any) -> Any:
            told = answer(target, ec2)
            told.status = self._target_states.get(target["Id"]) or told.status
            return told

        health_for.states = self._target_states  # type: ignore[attr-defined]
        return health_for

    def assume(self, role: str, *, service: str, session: str) -> Credentials:
        """Of a role, by ARN, for what a service of AWS starts. Raises authority.NotTrusted."""
        with self._lock:
            return self._authority.assume(role, service=service, session=session)

    def role_of(self, instance_id: str) -> str | None:
        """The ARN of the role in the instance's profile, if it has one. Raises ApiError when no group has it."""
        with self._lock:
            profile = self._groups.profile(instance_id)
            return self._authority.role_of_profile(profile) if profile else None

    def user_data(self, instance_id: str) -> str:
        """In base64; empty without. Raises ApiError when no group has the instance."""
        with self._lock:
            return self._groups.user_data(instance_id)

    def denied(self) -> Sequence[Denial]:
        """Every call of a role that was not allowed, oldest first."""
        with self._lock:
            return self._authority.denied()

    def used(self, role: str) -> frozenset[str]:
        """The actions that the role, by name, was allowed and took."""
        with self._lock:
            return self._authority.used(role)

    def unused(self, role: str) -> frozenset[Grant]:
        """What the role's policies allow and the role never did."""
        with self._lock:
            return self._authority.unused(role)

    def revoke(self, role: str, action: str) -> None:
        """Out of all policies of the role, by name. Raises KeyError for an action that none of them grants."""
        with self._lock:
            self._authority.revoke(role, action)

    def roles(self) -> Sequence[str]:
        """The names of all roles."""
        with self._lock:
            return self._authority.roles()

    def calls(self) -> Mapping[str, int]:
        """How often each service:Operation was called."""
        with self._lock:
            return dict(self._counts)
