"""The Pulumi engine in small: every registration of a program is planned and applied by the provider at once.

A MockMonitor, so that the program runs in process. It imitates what decides over live values: inputs kept from the last
run, ignoreChanges (top-level properties), replacement, names made by Pulumi, deletion of what is no longer registered.
Not imitated: aliases, protect, targets, default tags, replacement of dependents before a delete.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from google.protobuf import struct_pb2
from pulumi.runtime import mocks, rpc
from pulumi.runtime.proto import resource_pb2

from tests.provider import naming
from tests.provider.gaps import FAKED
from tests.provider.invented import Foreign, invented
from tests.provider.plugin import Applied, ApplyError, Plan, Provider
from tests.provider.schema import Block
from tests.provider.state import Kind, Operation, Resource, differences
from tests.provider.translation import ToProvider, from_provider, opened
from tests.provider.wire import ProviderError, Value

_PARALLEL = 16  # most of an apply is the provider waiting


class Engine(mocks.MockMonitor):
    """One run of a program. Afterwards ``registered`` is the stack's new state, ``leftovers`` what is to be deleted."""

    def __init__(
        self,
        provider: Provider,
        known: Mapping[str, Resource],
        *,
        assets: Path,
        foreign: Foreign,
        preview: bool = False,
        obey_ignore_changes: bool = True,
    ) -> None:
        super().__init__(_NoMocks())
        self._provider = provider
        self._known = known
        self._assets = assets
        self._foreign = foreign
        self._preview = preview
        self._obey_ignore_changes = obey_ignore_changes
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self.registered: dict[str, Resource] = {}
        self.leftovers: list[Resource] = []
        self.operations: list[Operation] = []
        self.dropped: set[str] = set()
        self.errors: list[ProviderError] = []

    # -- what Pulumi's SDK asks -----------------------------------------------------------------------------------

    def GetDeploymentInfo(self, request: Any) -> Any:
        if self._threads is None:
            # Asked first of all, on the loop's own thread: its default executor has hardly more threads than cores.
            self._threads = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="registration")
            asyncio.get_event_loop().set_default_executor(self._threads)
        return super().GetDeploymentInfo(request)  # type: ignore[no-untyped-call]  # Pulumi's

    def RegisterResource(self, request: Any) -> Any:
        urn = self.make_urn(request.parent, request.type, request.name)
        if not request.custom or request.type.startswith("pulumi:"):
            return resource_pb2.RegisterResourceResponse(urn=urn, id=request.name)
        try:
            id_, outputs = self._register(urn, request)
        except ProviderError as error:
            with self._lock:
                self.errors.append(error)
            raise
        return resource_pb2.RegisterResourceResponse(urn=urn, id=id_, object=_struct(outputs))

    def Invoke(self, request: Any) -> Any:
        given = opened(rpc.deserialize_properties(request.args))
        answer = self._foreign.answer(request.tok, given)
        if answer is None:
            type_ = naming.data_type(request.tok, self._provider)
            translation = ToProvider(type_, self._assets)
            types = naming.result_properties(request.tok)
            arguments = translation.arguments(given, self._provider.data_block(type_), types)
            answer = from_provider(self._provider.data(type_, arguments), types)
            self._note(dropped=translation.dropped)
        response = resource_pb2.ResourceInvokeResponse()
        getattr(response, "return").CopyFrom(_struct(answer))
        return response

    def wait(self) -> None:
        """Returns once no registration is under way any more, which after a failure takes a while."""
        if self._threads is not None:
            self._threads.shutdown()

    # -- one registration -----------------------------------------------------------------------------------------

    def _register(self, urn: str, request: Any) -> tuple[str, Mapping[str, Any]]:
        inputs = opened(rpc.deserialize_properties(request.object, keep_unknowns=self._preview))
        outputs = self._foreign.make(request.type, request.name, inputs)
        if outputs is not None:
            return request.name, outputs
        type_ = naming.resource_type(request.type, self._provider)
        wanted = Resource(
            urn=urn,
            type=type_,
            name=request.name,
            config=self._config(urn, request, inputs),
            applied=Applied(None, b""),
            dependencies=frozenset(request.dependencies),
        )
        self._provider.validate(type_, wanted.config)
        made = self._converge(wanted, delete_first=_delete_first(request, inputs))
        types = naming.resource_properties(request.type)
        id_ = made.applied.state.get("id")
        return id_ if isinstance(id_, str) else "", from_provider(made.applied.state, types, of_type=type_)

    def _config(self, urn: str, request: Any, inputs: Mapping[str, Any]) -> Value:
        type_ = naming.resource_type(request.type, self._provider)
        block = self._provider.block(type_)
        translation = ToProvider(type_, self._assets)
        given = translation.arguments(inputs, block, naming.resource_properties(request.type))
        given |= _timeouts(request, block)
        given |= self._name(urn, request, given)
        self._note(dropped=translation.dropped)
        config = block.value(given)
        old = self._known.get(urn)
        if old and self._obey_ignore_changes:
            config |= {name: old.config[name] for name in _ignored(request, block, type_)}
        return config

    def _name(self, urn: str, request: Any, given: Mapping[str, Value]) -> Mapping[str, Value]:
        """The name that Pulumi gives where the program does not: made once, kept after that."""
        block = self._provider.block(naming.resource_type(request.type, self._provider))
        property_ = naming.autonamed(request.type, block)
        name = property_ and naming.argument(
            property_, block, of_type=naming.resource_type(request.type, self._provider)
        )
        if not name or name in given or f"{name}_prefix" in given:
            return {}
        return {name: f"{request.name}-{hashlib.sha256(urn.encode()).hexdigest()[:7]}"}

    def _converge(self, wanted: Resource, *, delete_first: bool) -> Resource:
        old = self._known.get(wanted.urn)
        prior = old.applied if old else None
        plan = self._provider.plan(wanted.type, wanted.config, prior=prior)
        kind = _kind(plan, prior)
        self._note(wanted, kind, differences(prior.state, plan.state) if prior else ())
        if prior and kind is Kind.SAME:
            return self._keep(replace(wanted, applied=prior))
        if self._preview:
            return self._keep(replace(wanted, applied=Applied(plan.state, plan.private)))
        if kind is not Kind.REPLACE:
            return self._apply(wanted, plan, prior)
        assert old is not None
        if delete_first:
            self.delete(old)
        else:
            with self._lock:
                self.leftovers.append(old)
        return self._apply(wanted, self._provider.plan(wanted.type, wanted.config), None)

    def _apply(self, wanted: Resource, plan: Plan, prior: Applied | None) -> Resource:
        if wanted.type in FAKED:
            state = invented(plan.state, wanted, self._provider.block(wanted.type))
            return self._keep(replace(wanted, applied=Applied(state, plan.private)))
        try:
            applied = self._provider.apply(wanted.type, wanted.config, plan, prior=prior)
        except ApplyError as error:
            if error.made.state is not None:
                self._keep(replace(wanted, applied=error.made))  # half made: a destroy has to find it
            raise
        return self._keep(replace(wanted, applied=applied))

    def delete(self, old: Resource) -> None:
        """Raises ApplyError."""
        if old.type not in FAKED and not self._preview:
            self._provider.delete(old.type, old.applied)

    def _keep(self, made: Resource) -> Resource:
        with self._lock:
            self.registered[made.urn] = made
        return made

    def _note(
        self,
        wanted: Resource | None = None,
        kind: Kind = Kind.SAME,
        changed: tuple[str, ...] = (),
        *,
        dropped: Iterable[str] = (),
    ) -> None:
        with self._lock:
            self.dropped.update(dropped)
            if wanted:
                faked = wanted.type in FAKED and kind is not Kind.SAME
                self.operations.append(Operation(wanted.label, kind, changed, faked))


class _NoMocks(mocks.Mocks):
    """The monitor answers everything itself."""

    def new_resource(self, args: mocks.MockResourceArgs) -> NoReturn:
        raise NotImplementedError

    def call(self, args: mocks.MockCallArgs) -> NoReturn:
        raise NotImplementedError


def _kind(plan: Plan, prior: Applied | None) -> Kind:
    if prior is None:
        return Kind.CREATE
    if plan.state == prior.state:
        return Kind.SAME
    return Kind.REPLACE if plan.replaced_by else Kind.UPDATE


def _ignored(request: Any, block: Block, type_: str) -> Iterable[str]:
    for property_ in request.ignoreChanges:
        name = naming.argument(property_, block, of_type=type_)
        if name is None:
            raise ProviderError(f"{type_}: ignoreChanges of {property_}, which is no top-level property")
        yield name


def _timeouts(request: Any, block: Block) -> Mapping[str, Value]:
    told = {name: getattr(request.customTimeouts, name) for name in ("create", "update", "delete")}
    known = block.blocks["timeouts"].block if "timeouts" in block.blocks else Block({}, {})
    timeouts = {name: value for name, value in told.items() if value and name in known}
    return {"timeouts": timeouts} if timeouts else {}


def _delete_first(request: Any, inputs: Mapping[str, Any]) -> bool:
    """A name of the program's own can exist only once, so Pulumi deletes before it makes again."""
    return bool(request.deleteBeforeReplace or inputs.get("name") or inputs.get("bucket"))


def _struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(values)
    return struct
