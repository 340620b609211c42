"""Auto Scaling in memory: passes the same contract suite as the real adapter."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from control_plane.books import Lifetime
from control_plane.errors import LaunchMisconfigured, LaunchRefused
from control_plane.nodes import NodeId
from control_plane.ports import Group, Instance, Launch
from tests.memory import FakeClock, Fallible


@dataclass
class MemoryCloud(Fallible):
    """Auto Scaling groups that say no where ``refusals`` says so, for as long as it stands there.

    A group that ``holds`` keeps what it takes out, up and leaving, until it is released.
    """

    clock: FakeClock = field(default_factory=FakeClock)
    launch_s: float = 0.0  # what the clock steps while a launch is decided
    refusals: dict[tuple[str, str], LaunchRefused] = field(default_factory=dict)  # by group and zone
    launches: list[Launch] = field(default_factory=list)  # every call that was made
    terminated: list[NodeId] = field(default_factory=list)
    released: list[NodeId] = field(default_factory=list)
    instance_type: str = "g6.xlarge"
    spot_usd: dict[tuple[str, str], float] = field(default_factory=dict)  # by instance type and zone
    lifetimes: dict[NodeId, Lifetime] = field(default_factory=dict)  # what the cloud tells of its own times
    _groups: dict[str, Group] = field(default_factory=dict)
    _holding: set[str] = field(default_factory=set)  # groups with the hook
    _deleting: set[str] = field(default_factory=set)
    _by_token: dict[str, Instance] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def add_group(self, group: Group, *, holds: bool = False) -> None:
        self._groups[group.name] = group
        if holds:
            self._holding.add(group.name)

    def empty(self, name: str) -> None:
        """Somebody sets its desired capacity to 0."""
        self._groups[name] = replace(self._groups[name], desired=0)
        for instance in self._groups[name].instances:
            self._take_out(name, instance)

    def close(self, name: str) -> None:
        """A deletion begins: no instances, and no new ones."""
        self._groups[name] = replace(self._groups[name], max_size=0)
        self.empty(name)

    def delete_group(self, name: str) -> None:
        """As the AWS provider of `pulumi up` does: it closes the group, waits until it is empty, and deletes it."""
        self.close(name)
        self._deleting.add(name)
        self._delete_if_empty(name)

    def set_alive(self, node_id: NodeId, alive: bool) -> None:
        """The instance fails its health check, or stopped by itself."""
        for name, group in self._groups.items():
            told = tuple(replace(one, alive=alive) if one.id == node_id else one for one in group.instances)
            self._groups[name] = replace(group, instances=told)

    def vanish(self, node_id: NodeId) -> None:
        """The instance is gone, and its place in the group with it."""
        for name, group in list(self._groups.items()):
            left = tuple(told for told in group.instances if told.id != node_id)
            lost = _counted(group.instances) - _counted(left)
            self._groups[name] = replace(group, instances=left, desired=max(group.desired - lost, 0))
            self._delete_if_empty(name)

    async def groups(self) -> Sequence[Group]:
        return list(self._groups.values())

    async def launch(self, launch: Launch) -> Instance:
        self.launches.append(launch)
        self.clock.step(self.launch_s)
        if launch.token not in self._by_token:
            self._by_token[launch.token] = self._launch(launch)
        return self._by_token[launch.token]

    async def terminate(self, node_id: NodeId) -> None:
        for group in list(self._groups.values()):
            for instance in group.instances:
                if instance.id == node_id and not instance.leaving:
                    self._groups[group.name] = replace(group, desired=max(group.desired - 1, 0))
                    self._take_out(group.name, instance)
                    self.terminated.append(node_id)

    async def release(self, node_id: NodeId, group: str) -> None:
        held = self._groups[group].instances if group in self._groups else ()
        if any(told.id == node_id and told.held for told in held):
            self.vanish(node_id)
            self.released.append(node_id)

    async def lifetime(self, node_id: NodeId) -> Lifetime:
        return self.lifetimes.get(node_id, Lifetime())

    async def spot_usd_per_hour(self, instance_type: str, zone: str) -> float | None:
        return self.spot_usd.get((instance_type, zone))

    def _take_out(self, name: str, instance: Instance) -> None:
        group = self._groups[name]
        others = tuple(told for told in group.instances if told.id != instance.id)
        held = (replace(instance, alive=False, leaving=True, held=True),) if name in self._holding else ()
        self._groups[name] = replace(group, instances=(*others, *held))

    def _delete_if_empty(self, name: str) -> None:
        if name in self._deleting and not self._groups[name].instances:
            del self._groups[name]
            self._deleting.discard(name)

    def _launch(self, launch: Launch) -> Instance:
        group = self._groups.get(launch.group)
        if group is None or launch.zone not in group.zones:
            raise LaunchMisconfigured("ValidationError", f"{launch.group} has no zone {launch.zone}")
        if refusal := self.refusals.get((launch.group, launch.zone)):
            raise refusal
        if group.desired >= group.max_size:
            raise LaunchMisconfigured("ValidationError", f"{launch.group} is at its max size {group.max_size}")
        number = next(self._numbers)
        instance = Instance(NodeId(f"i-{number:017x}"), launch.zone, self.instance_type, alive=True)
        self._groups[group.name] = replace(group, desired=group.desired + 1, instances=(*group.instances, instance))
        return instance


def _counted(instances: Sequence[Instance]) -> int:
    """How many count towards desired capacity."""
    return sum(not instance.leaving for instance in instances)
