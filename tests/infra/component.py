"""A part of the program, or all of it, run here against a monitor that makes nothing and records every registration.

``run_component(build)`` runs a function that makes resources. For the whole program hand a ``Recorder()`` to
``rehearsal.program.run`` and read ``recorder.registrations`` afterwards.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import pulumi
from pulumi.runtime import mocks, rpc
from pulumi.runtime.stack import run_pulumi_func

from rehearsal.program import PROJECT, pulumi_loop

ACCOUNT = "111122223333"
REGION = "us-east-1"

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""What AWS would say: the inputs of a registration, or the arguments of a function, to what the program may read."""


@dataclass(frozen=True)
class Registration:
    """One resource as the program registered it. Names of properties are Pulumi's own, in camelCase."""

    type: str  # as in "aws:s3/bucket:Bucket"
    name: str
    urn: str
    parent: str  # URN; the stack's for a top-level resource
    inputs: Mapping[str, Any]  # plain: secrets opened, whole numbers as int
    secrets: frozenset[str]  # the top-level inputs that are, or hold, a secret
    ignore_changes: Sequence[str]
    dependencies: frozenset[str]  # URNs, those of depends_on and those that the inputs come from
    input_dependencies: Mapping[str, frozenset[str]]  # by input, the URNs that it comes from
    id: str  # as AWS would have given it; empty for a component
    state: Mapping[str, Any]  # what the program could read of it: inputs and computed values, such as "arn"
    request: Any  # the RegisterResourceRequest itself, for what is rarer

    @property
    def explicit_dependencies(self) -> frozenset[str]:
        """URNs that only depends_on names."""
        return self.dependencies.difference(*self.input_dependencies.values())


class Registrations(Sequence[Registration]):
    """All of a run, in the order in which they came."""

    def __init__(self, found: Sequence[Registration], outputs: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._found = list(found)
        self._outputs = outputs or {}

    def __getitem__(self, index: Any) -> Any:
        return self._found[index]

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Registration]:
        return iter(self._found)

    def of(self, type_: str) -> Registrations:
        """Those of a type; the end of its token will do, as in "s3/bucket:Bucket" or ":Bucket"."""
        return Registrations([each for each in self._found if each.type.endswith(type_)], self._outputs)

    def one(self, type_: str, name: str | None = None) -> Registration:
        """The only one of a type (of that name). An AssertionError tells what there is instead."""
        found = [each for each in self.of(type_) if name in (None, each.name)]
        if len(found) != 1:
            there = sorted(f"{each.type} {each.name}" for each in self._found)
            raise AssertionError(f"{len(found)} of {type_} {name or ''}; there are {there}")
        return found[0]

    def by_urn(self, urn: str) -> Registration:
        """The one with this URN."""
        return next(each for each in self._found if each.urn == urn)

    def outputs(self, component: Registration) -> Mapping[str, Any]:
        """What a component registered as its outputs."""
        return self._outputs[component.urn]


class Recorder(mocks.MockMonitor):
    """Records every registration, and answers with inputs, an id, an ARN and what ``outputs`` says for the type.

    ``calls`` are the functions that the program asks, by the end of their token, as in ":getAvailabilityZones".
    """

    def __init__(
        self, *, outputs: Mapping[str, Answer] | None = None, calls: Mapping[str, Answer] | None = None
    ) -> None:
        super().__init__(_Computed({**OUTPUTS, **(outputs or {})}, {**CALLS, **(calls or {})}))
        self._registered: list[Registration] = []
        self._outputs: dict[str, Mapping[str, Any]] = {}
        self._lock = threading.Lock()  # Pulumi registers from several threads

    @property
    def registrations(self) -> Registrations:
        """What was registered up to now, without the stack itself."""
        with self._lock:
            return Registrations(self._registered, dict(self._outputs))

    @property
    def asked(self) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """The functions that the program called: token and arguments."""
        assert isinstance(self.mocks, _Computed)
        return list(self.mocks.asked)

    def RegisterResource(self, request: Any) -> Any:
        answer = super().RegisterResource(request)  # type: ignore[no-untyped-call]  # Pulumi's
        if request.type != "pulumi:pulumi:Stack":
            with self._lock:
                self._registered.append(_registration(request, self.resources[answer.urn]))
        return answer

    def RegisterResourceOutputs(self, request: Any) -> Any:
        outputs = rpc.deserialize_properties(request.outputs)
        with self._lock:
            self._outputs[request.urn] = {name: _plain(value) for name, value in outputs.items()}
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]


def run_component(
    build: Callable[[], None],
    *,
    outputs: Mapping[str, Answer] | None = None,
    calls: Mapping[str, Answer] | None = None,
    config: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> Registrations:
    """Run ``build`` as a program of its own; returns what it registered, raises what it raised."""
    recorder = Recorder(outputs=outputs, calls=calls)
    raised: list[BaseException] = []

    def work() -> None:
        try:
            _run(build, recorder, config or {}, timeout_s)
        except BaseException as error:  # noqa: BLE001 - handed to the caller, below
            raised.append(error)

    # A thread of its own: the caller may have a running loop, and Pulumi wants one that is its alone.
    thread = threading.Thread(target=work, name="pulumi-component")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return recorder.registrations


def _run(build: Callable[[], None], recorder: Recorder, config: Mapping[str, str], timeout_s: float) -> None:
    with pulumi_loop() as loop:
        mocks.set_mocks(recorder.mocks, project=PROJECT, stack="test", preview=False, monitor=recorder)
        pulumi.runtime.set_all_config({"aws:region": REGION, **config})
        loop.run_until_complete(asyncio.wait_for(run_pulumi_func(build), timeout_s))


class _Computed(mocks.Mocks):
    """Answers with what AWS would have computed."""

    def __init__(self, outputs: Mapping[str, Answer], calls: Mapping[str, Answer]) -> None:
        self._outputs = outputs
        self._calls = calls
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        if not args.custom:
            return "", dict(args.inputs)
        id_ = _id(args.typ, args.name)
        computed = {"id": id_, "arn": _arn(args.typ, id_), **args.inputs}
        for type_, answer in self._outputs.items():
            if args.typ.endswith(type_):
                computed |= answer(computed)
        return str(computed["id"]), computed

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        self.asked.append((args.token, dict(args.args)))
        for token, answer in self._calls.items():
            if args.token.endswith(token):
                return {"id": "answer", **answer(args.args)}, []
        _unknown(args.token)


def _unknown(token: str) -> NoReturn:
    raise AssertionError(f"the program asks {token}, for which the test has no answer")


def _id(type_: str, name: str) -> str:
    """Like an id of AWS: the same for the same resource, and never equal to its name."""
    digest = hashlib.sha256(f"{type_} {name}".encode()).hexdigest()
    return f"{type_.rpartition(':')[2].lower()}-{digest[:8]}"


def _arn(type_: str, id_: str) -> str:
    service = type_.split(":")[1].split("/")[0] if ":" in type_ else "none"
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{id_}"


def _registration(request: Any, made: mocks.MockMonitor.ResourceRegistration) -> Registration:
    inputs: Mapping[str, Any] = rpc.deserialize_properties(request.object)
    return Registration(
        type=request.type,
        name=request.name,
        urn=made.urn,
        parent=request.parent,
        inputs={name: _plain(value) for name, value in inputs.items()},
        secrets=frozenset(name for name, value in inputs.items() if _holds_secret(value)),
        ignore_changes=list(request.ignoreChanges),
        dependencies=frozenset(request.dependencies),
        input_dependencies={name: frozenset(of.urns) for name, of in request.propertyDependencies.items()},
        id=made.id,
        state={name: _plain(value) for name, value in made.state.items()},
        request=request,
    )


def _plain(value: Any) -> Any:
    if rpc.is_rpc_secret(value):
        return _plain(rpc.unwrap_rpc_secret(value))
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _holds_secret(value: Any) -> bool:
    if rpc.is_rpc_secret(value):
        return True
    if isinstance(value, Mapping):
        return any(_holds_secret(each) for each in value.values())
    return isinstance(value, list) and any(_holds_secret(each) for each in value)


# By the end of a type's token. Add here what other components read.
OUTPUTS: Mapping[str, Answer] = {
    "s3/bucket:Bucket": lambda given: {
        "id": given.get("bucket") or given["id"],
        "bucket": given.get("bucket") or given["id"],
        "arn": f"arn:aws:s3:::{given.get('bucket') or given['id']}",
        "bucketRegionalDomainName": f"{given.get('bucket') or given['id']}.s3.{REGION}.amazonaws.com",
    },
    "dynamodb/table:Table": lambda given: {
        "id": given.get("name") or given["id"],
        "arn": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{given.get('name') or given['id']}",
    },
    "iam/role:Role": lambda given: {
        "name": given.get("name") or given["id"],
        "arn": f"arn:aws:iam::{ACCOUNT}:role/{given.get('name') or given['id']}",
    },
    "ssm/parameter:Parameter": lambda given: {
        "arn": f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{given.get('name') or given['id']}",
    },
    "cloudfront/distribution:Distribution": lambda given: {
        "arn": f"arn:aws:cloudfront::{ACCOUNT}:distribution/{given['id']}",
        "domainName": "d111111abcdef8.cloudfront.net",
        "hostedZoneId": "Z2FDTNDATAQYW2",
    },
    "lb/loadBalancer:LoadBalancer": lambda given: {
        "dnsName": f"internal-{given.get('name')}-1234567890.{REGION}.elb.amazonaws.com",
        "zoneId": "Z35SXDOTRQ7X7K",
    },
    "ecr/repository:Repository": lambda given: {
        "registryId": ACCOUNT,
        "repositoryUrl": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{given.get('name') or given['id']}",
    },
    "docker-build:index:Image": lambda given: {"ref": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/image@sha256:0"},
}

CALLS: Mapping[str, Answer] = {
    ":getAvailabilityZones": lambda _: {
        "names": [f"{REGION}{letter}" for letter in "abcdef"],
        "zoneIds": [f"use1-az{number}" for number in (1, 2, 4, 5, 6, 7)],
    },
    ":getManagedPrefixList": lambda given: {"id": "pl-3b927c52", "name": given.get("name", "")},
    ":getPrefixList": lambda given: {"id": "pl-3b927c52", "name": given.get("name", "")},
    ":getCallerIdentity": lambda _: {"accountId": ACCOUNT, "arn": f"arn:aws:iam::{ACCOUNT}:root", "userId": ACCOUNT},
    ":getPartition": lambda _: {"partition": "aws", "dnsSuffix": "amazonaws.com"},
    ":getRegion": lambda _: {"name": REGION, "region": REGION},
    ":getAuthorizationToken": lambda _: {
        "userName": "AWS",
        "password": "registry-password",
        "proxyEndpoint": f"https://{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com",
    },
    ":getRandomPassword": lambda _: {"randomPassword": "0123456789abcdef" * 4},
    ":getAmiIds": lambda _: {"ids": ["ami-00000000000000bac"]},
    "ssm/getParameter:getParameter": lambda given: {
        "value": "ami-0123456789abcdef0",
        "insecureValue": "ami-0123456789abcdef0",
        "name": given.get("name", ""),
    },
    ":getPolicyDocument": lambda given: {"json": json.dumps(given)},
}
