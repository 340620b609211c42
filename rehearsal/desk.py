"""The whole rehearsal in one object: account, machines, control plane, in this order and closed in reverse.

with Desk(Options(boot_seconds=0.5, load_seconds=0.5)) as desk:
    client = openai.OpenAI(base_url=desk.base_url, api_key=desk.api_key)
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from control_plane.schema import CALLBACK_PATH
from rehearsal import stack
from rehearsal.account import REGION, Account
from rehearsal.account_server import AccountServer
from rehearsal.authority import Denial
from rehearsal.birth import birth
from rehearsal.ec2 import HOME, MachineOptions, Machines
from rehearsal.ecs import DeskFailure, Task, accepted, reserve
from rehearsal.faults import Fault, Faults, UnknownFault
from rehearsal.front import Environments, Front, FrontOptions
from rehearsal.groups import Member
from rehearsal.identity_provider import IdentityProvider

__all__ = ["ENGINES", "Desk", "DeskFailure", "FrontOptions", "Options"]

ENGINES: Mapping[str, str] = {"builtin": "rehearsal.engine", "vllm": "rehearsal.vllm_cpu"}

# Without a front nothing turns the listener: clients speak to the control plane directly, and it never sleeps.
_OF_THE_FRONT = ("CLUSTER", "SERVICE", "LISTENER_ARN", "CONTROL_PLANE_GROUP_ARN", "NIGHT_WATCH_GROUP_ARN")
_NODE_KEEPS = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
_STOP_TIMEOUT_S = "5"  # nobody at a desk waits two minutes for a stream's end


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
    environment: Mapping[str, str] = field(default_factory=dict)  # on top of the caller's
    control_plane: bool = True
    front: FrontOptions | None = None  # None: clients speak to the control plane itself, which never sleeps
    agent: Sequence[str] = (sys.executable, "-m", "gpu_node")


class Desk(AbstractContextManager["Desk"]):
    """Everything up between entering and leaving. One at a time in a process."""

    def __init__(self, options: Options | None = None, *, tell: Callable[[str], None] = lambda _: None) -> None:
        self.options = options or Options()
        self.api_key = ""
        self._denials_told = 0
        self._mails_told = 0
        self._tell = tell
        self._environ = {**os.environ, **self.options.environment}
        self._stack = ExitStack()

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

    def denied(self) -> Sequence[Denial]:
        """Every call that the policies of a role did not allow."""
        return self.account.denied()

    def used(self, role: str) -> frozenset[str]:
        """The actions that a role, by name, was allowed and took."""
        return self.account.used(role)

    @property
    def namespace(self) -> str:
        return self.stack.namespace

    def node_log(self, instance_id: str) -> Path:
        return self.machines.log_of(instance_id)

    @property
    def stop_timeout_s(self) -> float:
        """How long the control plane's streams may go on after it was told to stop."""
        return self._task.stop_timeout_s

    def aws_env(self) -> Mapping[str, str]:
        """Where the account is, for a process; who asks is not said."""
        # The files are named so that nobody's real profile is read, let alone used.
        return {
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    # -- what a test does --------------------------------------------------------------------------------------

    def add_fault(self, **entry: Any) -> None:
        """One fault in the words of the file. Raises UnknownFault."""
        self._faults.add(Fault.parse(entry))

    def revoke(self, role: str, action: str) -> None:
        """Take an action, spelled as it was granted, out of all policies of a role, by name. Raises KeyError."""
        self.account.revoke(role, action)

    def start_control_plane(self) -> None:
        """Returns once it answers. Raises DeskFailure."""
        self._task.start()

    def stop_control_plane(self) -> None:
        """Tell it to stop and wait until it is gone; its streams have ``stop_timeout_s``."""
        self._task.stop()

    def kill_control_plane(self) -> None:
        self._task.stop(signal.SIGKILL)

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
        held = self._stack.enter_context(reserve(self.options.port))
        self.port = held.getsockname()[1]
        self.run_dir = Path(tempfile.mkdtemp(prefix="rehearsal-"))
        self._stack.callback(shutil.rmtree, self.run_dir, ignore_errors=True)
        self._faults = Faults(self.options.faults)
        self._faults.refresh()
        self.account = Account(self._faults)
        self.aws_url = self._stack.enter_context(AccountServer(self.account)).url
        self.stack = stack.apply(self.aws_url, region=REGION, models=self._models())
        self._open_sign_in()
        task_env = self._task_env(self.stack.task_environment())
        self._task = Task(
            self.port,
            env=task_env,
            log=self.run_dir / "control-plane.log",
            stop_timeout_s=accepted(task_env).stop_timeout_s,
        )
        self._start_machines()
        self._stack.callback(self.stop_control_plane)
        if self.options.front:
            self._open_front(self.options.front)
        elif self.options.control_plane:
            self.start_control_plane()
        if self.options.front or self.options.control_plane:
            self.api_key = self._task.run("key", "create", "--email", stack.OWNER, "--name", "rehearsal")

    def _open_sign_in(self) -> None:
        """Anybody may sign in as anybody: who is on the allowlist gets in."""
        origin = self.web_url.rstrip("/")
        self.identity = self._stack.enter_context(
            IdentityProvider(redirect_uri=origin + CALLBACK_PATH, email=stack.OWNER)
        )
        stack.point_sign_in(
            self.aws_url, region=REGION, namespace=self.namespace, issuer=self.identity.url, web_url=origin
        )

    def _open_front(self, options: FrontOptions) -> None:
        environments = Environments(
            self._task_env, {function.handler: self._function_env(function) for function in self.stack.functions()}
        )
        self.front = self._stack.enter_context(
            Front(
                self.port,
                self.account,
                self.stack,
                environments=environments,
                options=options,
                run_dir=self.run_dir,
                tell=self._tell,
            )
        )

    def _models(self) -> Sequence[Mapping[str, Any]]:
        models = [dict(config) for config in self.options.models or stack.models_of_stack()]
        if self.options.idle_seconds is None:
            return models
        return [{**config, "idleTimeout": self.options.idle_seconds} for config in models]

    def _start_machines(self) -> None:
        options = MachineOptions(
            namespace=self.stack.namespace,
            boot_s=self.options.boot_seconds,
            command=self.options.agent,
            env=self._node_env(),
            run_dir=self.run_dir,
            birth=partial(birth, self.account),
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
            self._tell_denials()
            self._tell_mails()
            self.account.changed.wait(0.1)
            self.account.changed.clear()

    def _tell_denials(self) -> None:
        """Each once: at a desk nobody else would see why a call was refused."""
        denials = self.account.denied()
        for denial in denials[self._denials_told :]:
            self._tell(f"denied: {denial}")
        self._denials_told = len(denials)

    def _tell_mails(self) -> None:
        mails = self.account.mails()
        for mail in mails[self._mails_told :]:
            self._tell(f"mail: {mail.subject}")
        self._mails_told = len(mails)

    def _task_env(self, told: Mapping[str, str]) -> Mapping[str, str]:
        """Of one task, with credentials of its own; ``told`` are the variables of its definition."""
        if not self.options.front:
            front = {f"DIOGENES_{name}" for name in _OF_THE_FRONT}
            told = {name: value for name, value in told.items() if name not in front}
        credentials = self.account.assume(self.stack.task_role, service="ecs-tasks.amazonaws.com", session="desk")
        return {**self._program_env(told), **credentials.environment()}

    def _function_env(self, function: stack.Function) -> Mapping[str, str]:
        credentials = self.account.assume(function.role, service="lambda.amazonaws.com", session="desk")
        return {**self._program_env(function.environment), **credentials.environment()}

    def _program_env(self, told: Mapping[str, str]) -> Mapping[str, str]:
        kept = {k: v for k, v in self._environ.items() if not k.startswith(("AWS_", "DIOGENES_NODE_"))}
        return {
            **told,
            "DIOGENES_STOP_TIMEOUT_S": _STOP_TIMEOUT_S,
            "HF_HUB_OFFLINE": "1",  # no desk asks the hub
            "DIOGENES_TRANSPORT": "http",  # no browser would send a cookie that wants TLS
            **kept,
            **self.aws_env(),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def _node_env(self) -> Mapping[str, str]:
        prefixes = ("REHEARSAL_", "DIOGENES_NODE_")
        kept = {k: v for k, v in self._environ.items() if k in _NODE_KEEPS or k.startswith(prefixes)}
        return {
            "DIOGENES_NODE_ENGINE": shlex.join([sys.executable, "-m", ENGINES[self.options.engine]]),
            "DIOGENES_NODE_DRIVER_CHECK": "0",
            "REHEARSAL_LOAD_SECONDS": str(self.options.load_seconds),
            **kept,
            **self.aws_env(),
            "PYTHONPATH": str(HOME),
        }
