"""The machines: for every instance of a group, a loopback address, metadata, and the real agent as a process.

An instance boots after a while, and the agent starts. When the agent's process ends, the machine powers off and the
instance terminates itself. When the account terminates the instance, the agent gets SIGTERM and everything SIGKILL
after the grace; while a group's hook holds the instance, nothing happens but that its metadata says so. All of it
happens in ``step``, so a test steps it; the desk calls it from one thread.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from control_plane.schema import INSTANCES
from gpu_node.protocol import NodeState
from rehearsal.birth import Birth
from rehearsal.faults import Fault, Faults
from rehearsal.groups import ApiError, Member
from rehearsal.imds import PORT, Identity, InstanceRole, MetadataService
from rehearsal.tree import ProcessTree

HOME = Path(__file__).parents[1]
_ADDRESS_TRIES = 50


class Records(Protocol):
    """What the machines need of the account."""

    def members(self) -> Sequence[Member]: ...

    def booted(self, instance_id: str) -> None: ...

    def died(self, instance_id: str) -> None: ...

    def row(self, table: str, key: Mapping[str, dict[str, str]]) -> Mapping[str, object] | None: ...


@dataclass(frozen=True)
class MachineOptions:
    """How every machine is made."""

    namespace: str
    boot_s: float
    command: Sequence[str]  # the agent
    env: Mapping[str, str]  # the same for all of them, whatever their user data says
    run_dir: Path
    grace_s: float = 5.0
    birth: Callable[[Member], Birth] = lambda _: Birth()


@dataclass
class _Machine:
    member: Member
    launched_at: float
    number: int
    address: str = ""
    metadata: MetadataService | None = None
    tree: ProcessTree | None = None
    never_boots: bool = False
    leaving: bool = False
    warned: bool = False
    taken_back_at: float | None = None  # by AWS, on the machines' clock
    cause: str = ""  # why it ended, where that is known beforehand
    suffered: list[Fault] = field(default_factory=list)


class Machines:
    """Every machine of the account. Only the methods that say so may be called from another thread."""

    def __init__(
        self,
        records: Records,
        options: MachineOptions,
        *,
        faults: Faults,
        clock: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        self._records = records
        self._options = options
        self._faults = faults
        self._clock = clock
        self._tell = tell
        self._machines: dict[str, _Machine] = {}
        self._addresses = random.Random()
        self._launched = 0

    def step(self) -> None:
        """Bring the machines in line with the account, and the account with the machines."""
        members = {member.id: member for member in self._records.members()}
        for member in members.values():
            if member.alive and member.id not in self._machines:
                self._launch(member)
        for machine in list(self._machines.values()):
            member_now = members.get(machine.member.id)
            if member_now is not None and member_now.leaving:
                self._warn(machine)
            self._advance(machine, wanted=member_now is not None and member_now.alive)

    def tree(self, instance_id: str) -> ProcessTree:
        """The processes of a booted instance; any thread. Raises KeyError."""
        machine = self._machines.get(instance_id)
        if machine is None or machine.tree is None:
            raise KeyError(f"{instance_id} does not run")
        return machine.tree

    def log_of(self, instance_id: str) -> Path:
        """Where the instance's output goes; any thread."""
        return self._options.run_dir / f"{instance_id}.log"

    def cut_power(self, instance_id: str) -> None:
        """The whole machine is gone at once, and the account learns it; any thread. Raises KeyError."""
        machine = self._machines[instance_id]
        machine.cause = "lost its power"
        if machine.tree is not None:
            machine.tree.kill()
        with suppress(ApiError):
            self._records.died(instance_id)

    def close(self, limit_s: float = 15.0) -> None:
        """Stop every machine and wait until nothing of it is left."""
        trees = [machine.tree for machine in self._machines.values() if machine.tree is not None]
        for tree in trees:
            tree.stop()
        for tree in trees:
            if tree.wait(limit_s) is None:
                tree.kill()
                tree.wait(limit_s)
        for machine in self._machines.values():
            self._release(machine)
        self._machines.clear()

    def _launch(self, member: Member) -> None:
        self._launched += 1
        self._machines[member.id] = _Machine(member, self._clock(), self._launched)
        self._tell(
            f"{member.id} launched: {member.instance_type} ({member.market}) in {member.zone} for {member.model}"
        )

    def _warn(self, machine: _Machine) -> None:
        """Its group waits before it takes the instance down; the instance can learn it."""
        if not machine.warned:
            machine.warned = True
            self._tell(f"{machine.member.id} shall go: its group waits")
        if machine.metadata is not None:
            machine.metadata.tell_target_state("Terminated")

    def _advance(self, machine: _Machine, *, wanted: bool) -> None:
        """One machine, one step: 1 gone, 2 told to go, 3 ended by itself, 4 still to boot, 5 running."""
        if machine.tree is not None and machine.tree.exited:
            self._bury(machine, by_itself=wanted)  # 1, 3
        elif not wanted and machine.tree is None:
            self._bury(machine, by_itself=False)  # 1
        elif not wanted:
            self._stop(machine)  # 2
        else:
            if machine.tree is None:
                self._boot_when_due(machine)  # 4
            self._suffer(machine)  # 4, 5
        self._take_back(machine)

    def _bury(self, machine: _Machine, *, by_itself: bool) -> None:
        if by_itself:
            with suppress(ApiError):  # taken out of its group at the same moment
                self._records.died(machine.member.id)
        if machine.tree is not None:
            machine.tree.wait(1.0)
        self._release(machine)
        del self._machines[machine.member.id]
        cause = machine.cause or ("powered off by itself" if by_itself else "by request")
        self._tell(f"{machine.member.id} terminated: {cause}, after {self._age(machine):.1f} s")

    def _stop(self, machine: _Machine) -> None:
        if machine.tree is not None and not machine.leaving:
            machine.leaving = True
            machine.tree.stop()

    def _boot_when_due(self, machine: _Machine) -> None:
        if machine.never_boots or self._age(machine) < self._options.boot_s:
            return
        if self._struck("never_boots", machine) is not None:
            machine.never_boots = True
            return
        with suppress(ApiError):  # taken out of its group at the same moment
            self._records.booted(machine.member.id)
            self._boot(machine)

    def _boot(self, machine: _Machine) -> None:
        member = machine.member
        birth = self._options.birth(member)
        machine.address, machine.metadata = self._take_address(member, birth.role)
        failure = self._struck("boot_failure", machine)
        env = {
            **birth.environment,
            **self._options.env,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{machine.address}:{PORT}",
            **({"REHEARSAL_BOOT_FAILURE": failure.what} if failure else {}),
        }
        options = self._options
        machine.tree = ProcessTree(
            options.command, env=env, cwd=HOME, log=self.log_of(member.id), grace_s=options.grace_s
        )
        self._tell(f"{member.id} booted at {machine.address} after {self._age(machine):.1f} s")

    def _take_address(self, member: Member, role: InstanceRole | None) -> tuple[str, MetadataService]:
        """An address of 127.20.0.0/16 that nobody on this machine uses: binding the metadata port reserves it."""
        for _ in range(_ADDRESS_TRIES):
            address = f"127.20.{self._addresses.randint(0, 255)}.{self._addresses.randint(1, 254)}"
            identity = Identity(
                instance_id=member.id,
                local_ipv4=address,
                zone=member.zone,
                instance_type=member.instance_type,
                life_cycle=member.market,
                role=role,
            )
            with suppress(OSError):
                return address, MetadataService(address, identity)
        raise RuntimeError("no loopback address is free")

    def _suffer(self, machine: _Machine) -> None:
        for fault in self._faults.pending("kill"):
            if any(fault is past for past in machine.suffered):
                continue
            if fault.concerns(model=machine.member.model) and self._due(fault, machine) and self._faults.use(fault):
                machine.suffered.append(fault)
                self._tell(f"{machine.member.id} suffers: kill {fault.what}")
                self._kill(fault.what, machine)

        for fault in self._faults.pending("spot"):
            mine = machine.member.market == "spot" and fault.concerns(model=machine.member.model)
            if mine and machine.metadata and self._due(fault, machine) and self._faults.use(fault):
                self._announce(fault, machine, machine.metadata)

    def _announce(self, fault: Fault, machine: _Machine, metadata: MetadataService) -> None:
        self._tell(f"{machine.member.id} is told of a Spot {fault.what}")
        if fault.what == "rebalance":
            metadata.tell_rebalance(datetime.now(UTC))
            return
        metadata.tell_interruption(datetime.now(UTC) + timedelta(seconds=fault.notice_s))
        machine.taken_back_at = self._clock() + fault.notice_s

    def _take_back(self, machine: _Machine) -> None:
        """As AWS does at the end of a notice: the operating system is shut down, then the instance is gone."""
        if machine.taken_back_at is not None and self._clock() >= machine.taken_back_at:
            machine.cause = "taken back by AWS"
            self._stop(machine)

    def _kill(self, victim: str, machine: _Machine) -> None:
        if victim == "instance" or machine.tree is None:
            self.cut_power(machine.member.id)
        elif victim == "agent":
            machine.tree.signal(9)
        else:
            machine.tree.kill_below_leader()

    def _due(self, fault: Fault, machine: _Machine) -> bool:
        if machine.tree is None and fault.what != "instance":
            return False
        if self._age(machine) < fault.after_s:
            return False
        return fault.phase is None or self._has_reached(fault.phase, machine)

    def _has_reached(self, phase: str, machine: _Machine) -> bool:
        table = INSTANCES.full_name(self._options.namespace)
        row = self._records.row(table, {INSTANCES.hash_key: {"S": machine.member.id}}) or {}
        phases = row.get("phases")
        last = phases[-1]["phase"] if isinstance(phases, list) and phases else None
        return last == phase if phase != NodeState.READY else row.get("status") == phase

    def _struck(self, kind: str, machine: _Machine) -> Fault | None:
        for fault in self._faults.pending(kind):
            if fault.concerns(model=machine.member.model) and self._faults.use(fault):
                self._tell(f"{machine.member.id} suffers: {kind} {fault.what}")
                return fault
        return None

    def _age(self, machine: _Machine) -> float:
        return self._clock() - machine.launched_at

    def _release(self, machine: _Machine) -> None:
        if machine.metadata is not None:
            machine.metadata.close()
            machine.metadata = None
