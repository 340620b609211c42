"""The AWS provider as a process of ours, with every one of its endpoints on this machine."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tests.provider.schema import Block
from tests.provider.wire import Calls, ProviderError, Value, pack, steps, unpack

# The handshake of HashiCorp's plugins: a word that both sides know, so that nobody starts one by mistake.
_COOKIE = {
    "TF_PLUGIN_MAGIC_COOKIE": "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2",
    "PLUGIN_PROTOCOL_VERSIONS": "5",
}
_TERRAFORM = "1.11.4"  # whom the provider believes to serve
_NOWHERE = "http://127.0.0.1:9"  # what would leave this machine all the same ends here
_APPLY_LIMIT_S = 300.0


@dataclass(frozen=True)
class Plan:
    """What an apply would make of a resource."""

    state: Value  # None: nothing is left of it
    replaced_by: Sequence[str]  # the arguments that cannot change in place
    private: bytes


@dataclass(frozen=True)
class Applied:
    """What became of a resource; ``private`` is the provider's own note to itself."""

    state: Value
    private: bytes


class ApplyError(ProviderError):
    """An apply that failed. What it made before it failed is there all the same."""

    def __init__(self, message: str, made: Applied) -> None:
        super().__init__(message)
        self.made = made


class Provider(AbstractContextManager["Provider"]):
    """A running AWS provider. Safe for threads; every call blocks. Ends its process on exit."""

    def __init__(self, executable: Path, *, endpoint: str, region: str) -> None:
        """``endpoint`` is the emulated account's URL, on a loopback address: anything else raises ValueError."""
        if urlsplit(endpoint).hostname != "127.0.0.1":
            raise ValueError(f"{endpoint} is not on this machine")
        self._executable = executable
        self._endpoint = endpoint
        self._region = region
        self._closing = ExitStack()
        self._blocks: dict[tuple[str, str], Block] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Provider:
        with ExitStack() as opening:
            folder = opening.enter_context(tempfile.TemporaryDirectory(prefix="provider-"))
            self.process = _start(self._executable, Path(folder))
            opening.callback(_end, self.process)
            self._calls = Calls(_address(self.process, Path(folder)))
            opening.callback(self._calls.close)
            self._schema = self._calls("GetSchema", timeout_s=180)
            self.endpoints = self._configure()
            self._closing = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def knows(self, type_: str) -> bool:
        return type_ in self._schema.resource_schemas

    def knows_data(self, type_: str) -> bool:
        return type_ in self._schema.data_source_schemas

    def block(self, type_: str) -> Block:
        """Of a resource's type."""
        return self._block("resource_schemas", type_)

    def data_block(self, type_: str) -> Block:
        """Of a data source's type."""
        return self._block("data_source_schemas", type_)

    def validate(self, type_: str, config: Value) -> None:
        """Raises ProviderError."""
        self._calls("ValidateResourceTypeConfig", type_name=type_, config=pack(config))

    def plan(self, type_: str, config: Value, *, prior: Applied | None = None) -> Plan:
        """What would change; without ``prior``, what would be made. Raises ProviderError."""
        state = prior.state if prior else None
        answer = self._calls(
            "PlanResourceChange",
            type_name=type_,
            prior_state=pack(state),
            proposed_new_state=pack(self.block(type_).proposed(config, state)),
            config=pack(config),
            prior_private=prior.private if prior else b"",
        )
        replaced_by = [".".join(steps(path)) for path in answer.requires_replace]
        return Plan(unpack(answer.planned_state), replaced_by, answer.planned_private)

    def apply(self, type_: str, config: Value, plan: Plan, *, prior: Applied | None = None) -> Applied:
        """Raises ApplyError."""
        return self._apply(type_, config, plan, prior=prior)

    def delete(self, type_: str, prior: Applied) -> None:
        """Raises ApplyError."""
        self._apply(type_, None, Plan(None, [], prior.private), prior=prior)

    def read(self, type_: str, known: Applied) -> Applied | None:
        """The resource as it is now; None when it is gone. Raises ProviderError."""
        answer = self._calls("ReadResource", type_name=type_, current_state=pack(known.state), private=known.private)
        state = unpack(answer.new_state)
        return None if state is None else Applied(state, answer.private)

    def data(self, type_: str, given: Mapping[str, Value]) -> Mapping[str, Value]:
        """What a data source says. Raises ProviderError."""
        config = pack(self.data_block(type_).value(given))
        found: Mapping[str, Value] = unpack(self._calls("ReadDataSource", type_name=type_, config=config).state)
        return found

    def _apply(self, type_: str, config: Value, plan: Plan, *, prior: Applied | None) -> Applied:
        try:
            answer = self._calls(
                "ApplyResourceChange",
                type_name=type_,
                prior_state=pack(prior.state if prior else None),
                planned_state=pack(plan.state),
                config=pack(config),
                planned_private=plan.private,
                timeout_s=_APPLY_LIMIT_S,
            )
        except ProviderError as error:
            failed: Any = getattr(error, "response", None)
            if failed is None:
                raise
            raise ApplyError(str(error), Applied(unpack(failed.new_state), failed.private)) from error
        return Applied(unpack(answer.new_state), answer.private)

    def _configure(self) -> Mapping[str, str]:
        block = Block.of(self._schema.provider.block)
        endpoints = {name: self._endpoint for name in block.blocks["endpoints"].block.attributes}
        config = block.value(
            {
                "region": self._region,
                "access_key": "rehearsal",
                "secret_key": "rehearsal",
                "skip_credentials_validation": True,
                "skip_metadata_api_check": "true",
                "s3_use_path_style": True,
                "max_retries": 2,
                "endpoints": [endpoints],
            }
        )
        self._calls("Configure", terraform_version=_TERRAFORM, config=pack(config))
        return endpoints

    def _block(self, kind: str, type_: str) -> Block:
        with self._lock:
            if (kind, type_) not in self._blocks:
                self._blocks[kind, type_] = Block.of(getattr(self._schema, kind)[type_].block)
            return self._blocks[kind, type_]


def _start(executable: Path, folder: Path) -> subprocess.Popen[str]:
    # Nothing of our own environment: no credentials, no endpoint, no proxy of whoever runs this.
    environment = {
        **_COOKIE,
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "AWS_EC2_METADATA_DISABLED": "true",
        "HTTP_PROXY": _NOWHERE,
        "HTTPS_PROXY": _NOWHERE,
    }
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [executable], env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
        )


def _address(process: subprocess.Popen[str], folder: Path) -> str:
    assert process.stdout
    words = process.stdout.readline().strip().split("|")
    if len(words) < 5:
        raise ProviderError(f"no handshake: {words} {(folder / 'log').read_text()[-500:]}")
    return f"unix:{words[3]}" if words[2] == "unix" else words[3]


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    assert process.stdout
    process.stdout.close()
