"""The whole rehearsal in one object: account, machines, control plane, in this order and closed in reverse.

with Desk(Options(boot_seconds=0.5, load_seconds=0.5)) as desk:
    client = openai.OpenAI(base_url=desk.base_url, api_key=desk.api_key)
"""

from __future__ import annotations

import http.client
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3

from control_plane.schema import INSTANCES, MODELS
from rehearsal.account import REGION, Account, AccountServer
from rehearsal.ec2 import HOME, MachineOptions, Machines
from rehearsal.faults import Fault, Faults, UnknownFault
from rehearsal.groups import Member
from rehearsal.seed import Seed, models_of_stack
from rehearsal.tree import ProcessTree

ENGINES: Mapping[str, str] = {"builtin": "rehearsal.engine", "vllm": "rehearsal.vllm_cpu"}

_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "rehearsal", "AWS_SECRET_ACCESS_KEY": "rehearsal"}
_START_LIMIT_S = 30.0
_STOP_LIMIT_S = 10.0
_LOG_LINES = 30
_NODE_KEEPS = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")


class DeskFailure(Exception):
    """Something did not come up; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Options:
    """What to rehearse."""

    port: int = 0  # of the control plane; 0 = any that is free
    boot_seconds: float = 5.0
    load_seconds: float = 5.0
    idle_seconds: int | None = None  # instead of every model's idleTimeout
    engine: str = "builtin"
    faults: Path | None = None
    models: Sequence[Mapping[str, Any]] | None = None  # None: those of Pulumi.prod.yaml
    namespace: str = "diogenes-desk"
    environment: Mapping[str, str] = field(default_factory=dict)  # on top of the caller's
    control_plane: bool = True
    agent: Sequence[str] = (sys.executable, "-m", "gpu_node")


class Desk(AbstractContextManager["Desk"]):
    """Everything up between entering and leaving. One at a time in a process."""

    def __init__(self, options: Options | None = None, *, tell: Callable[[str], None] = lambda _: None) -> None:
        self.options = options or Options()
        self.api_key = ""
        self._tell = tell
        self._environ = {**os.environ, **self.options.environment}
        self._stack = ExitStack()
        self._control_plane: ProcessTree | None = None

    def __enter__(self) -> Desk:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # -- what a test looks at ----------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def instances(self) -> Mapping[str, Sequence[Member]]:
        """The instances that are alive, by group; groups without any are left out."""
        alive: dict[str, list[Member]] = {}
        for member in self.account.members():
            if member.alive:
                alive.setdefault(member.group, []).append(member)
        return alive

    def desired(self, group: str) -> int:
        return self.account.desired(group)

    def calls(self) -> Mapping[str, int]:
        """How often each service:Operation of the account was called."""
        return self.account.calls()

    def node_log(self, instance_id: str) -> Path:
        return self.machines.log_of(instance_id)

    @property
    def control_plane_log(self) -> Path:
        return self.run_dir / "control-plane.log"

    # -- what a test does --------------------------------------------------------------------------------------

    def add_fault(self, **entry: Any) -> None:
        """One fault in the words of the file. Raises UnknownFault."""
        self._faults.add(Fault.parse(entry))

    def start_control_plane(self) -> None:
        """Returns once it answers. Raises DeskFailure."""
        command = [sys.executable, "-m", "control_plane", "serve"]
        log = self.control_plane_log
        tree = ProcessTree(command, env=self._control_plane_env(), cwd=HOME, log=log, grace_s=_STOP_LIMIT_S)
        self._control_plane = tree
        limit = time.monotonic() + _START_LIMIT_S
        while not self._healthy():
            if tree.exited or time.monotonic() > limit:
                raise DeskFailure(f"the control plane did not start\n{_tail(log)}")
            time.sleep(0.05)

    def stop_control_plane(self, number: int = signal.SIGTERM) -> None:
        """Send the signal and wait until it is gone; after 10 s it is killed."""
        tree, self._control_plane = self._control_plane, None
        if tree is None:
            return
        if not tree.exited:
            tree.signal(number)
        if tree.wait(_STOP_LIMIT_S) is None:
            tree.kill()
            tree.wait(_STOP_LIMIT_S)

    def kill_control_plane(self) -> None:
        self.stop_control_plane(signal.SIGKILL)

    @property
    def control_plane_exited(self) -> bool:
        """True when it ended without being told to."""
        return self._control_plane is not None and self._control_plane.exited

    def kill_engine(self, instance_id: str) -> None:
        """SIGKILL to the engine; the agent lives. Raises KeyError when the instance does not run an engine."""
        if not self.machines.tree(instance_id).kill_below_leader():
            raise KeyError(f"{instance_id} runs no engine")

    def kill_agent(self, instance_id: str) -> None:
        """SIGKILL to the agent, so the machine powers off. Raises KeyError."""
        self.machines.tree(instance_id).signal(signal.SIGKILL)

    def kill_instance(self, instance_id: str) -> None:
        """Cut the power. Raises KeyError."""
        self.machines.cut_power(instance_id)

    # -- how it comes up ---------------------------------------------------------------------------------------

    def _open(self) -> None:
        self.run_dir = Path(tempfile.mkdtemp(prefix="rehearsal-"))
        self._stack.callback(shutil.rmtree, self.run_dir, ignore_errors=True)
        self._faults = Faults(self.options.faults)
        self._faults.refresh()
        self.account = Account(self._faults)
        self.aws_url = self._stack.enter_context(AccountServer(self.account)).url
        self._sow()
        self._start_machines()
        self.port = self.options.port or _free_port()
        if self.options.control_plane:
            self._stack.callback(self.stop_control_plane)
            self.start_control_plane()
            self.api_key = self._create_key()

    def _sow(self) -> None:
        models = [dict(config) for config in self.options.models or models_of_stack()]
        if self.options.idle_seconds is not None:
            models = [{**config, "idleTimeout": self.options.idle_seconds} for config in models]
        session = boto3.Session(
            aws_access_key_id=_CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=REGION,
        )
        Seed(self.options.namespace, session, self.aws_url).sow(models)

    def _start_machines(self) -> None:
        options = MachineOptions(
            namespace=self.options.namespace,
            boot_s=self.options.boot_seconds,
            command=self.options.agent,
            env=self._node_env(),
            run_dir=self.run_dir,
        )
        self.machines = Machines(self.account, options, faults=self._faults, clock=time.monotonic, tell=self._tell)
        self._stack.callback(self.machines.close)
        self._closing = threading.Event()
        keeper = threading.Thread(target=self._keep_machines, name="machines", daemon=True)
        keeper.start()
        self._stack.callback(keeper.join)
        self._stack.callback(self._closing.set)

    def _keep_machines(self) -> None:
        while not self._closing.is_set():
            try:
                if self._faults.refresh():
                    self._tell("faults read")
            except (UnknownFault, OSError) as error:
                self._tell(f"faults not read: {error}")
            self.machines.step()
            self.account.changed.wait(0.1)
            self.account.changed.clear()

    def _create_key(self) -> str:
        words = ["key", "create", "--email", "you@example.com", "--name", "rehearsal"]
        made = subprocess.run(
            [sys.executable, "-m", "control_plane", *words],
            env=self._control_plane_env(),
            cwd=HOME,
            capture_output=True,
            text=True,
            timeout=_START_LIMIT_S,
        )
        if made.returncode:
            raise DeskFailure(f"no key was made\n{made.stderr}")
        return made.stdout.strip()

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2.0)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        return False

    def _control_plane_env(self) -> Mapping[str, str]:
        kept = {k: v for k, v in self._environ.items() if not k.startswith(("AWS_", "DIOGENES_NODE_"))}
        return {
            **kept,
            **self._aws_env(),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "DIOGENES_NAMESPACE": self.options.namespace,
            "DIOGENES_HOST": "127.0.0.1",
            "DIOGENES_PORT": str(self.port),
        }

    def _node_env(self) -> Mapping[str, str]:
        prefixes = ("REHEARSAL_", "DIOGENES_NODE_")
        kept = {k: v for k, v in self._environ.items() if k in _NODE_KEEPS or k.startswith(prefixes)}
        return {
            "DIOGENES_NODE_ENGINE": shlex.join([sys.executable, "-m", ENGINES[self.options.engine]]),
            "DIOGENES_NODE_DRIVER_CHECK": "0",
            "REHEARSAL_LOAD_SECONDS": str(self.options.load_seconds),
            **kept,
            **self._aws_env(),
            "PYTHONPATH": str(HOME),
            "DIOGENES_NODE_INSTANCES_TABLE": INSTANCES.full_name(self.options.namespace),
            "DIOGENES_NODE_MODELS_TABLE": MODELS.full_name(self.options.namespace),
        }

    def _aws_env(self) -> Mapping[str, str]:
        # The files are named so that nobody's real profile is read, let alone used.
        return {
            **_CREDENTIALS,
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
