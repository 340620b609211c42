"""Lifecycle hooks on termination: what a group takes out waits until somebody completes the hook, or its time is up.

Moto stores hooks and ignores them. Here an instance waits for all that its group has on termination, in any order;
those on launch are ignored. Not thread-safe, like ``groups``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from moto.autoscaling.models import AutoScalingBackend, LifecycleHook

_TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"


@dataclass(frozen=True)
class HookSpec:
    """One hook, as the creation of a group may carry it."""

    name: str
    transition: str
    timeout_s: int | None
    result: str

    @classmethod
    def parse_all(cls, params: Mapping[str, str]) -> Sequence[HookSpec]:
        """The hooks among the parameters of CreateAutoScalingGroup."""
        specs: list[HookSpec] = []
        while f"LifecycleHookSpecificationList.member.{len(specs) + 1}.LifecycleHookName" in params:
            told = f"LifecycleHookSpecificationList.member.{len(specs) + 1}."
            timeout = params.get(told + "HeartbeatTimeout")
            specs.append(
                cls(
                    name=params[told + "LifecycleHookName"],
                    transition=params.get(told + "LifecycleTransition", ""),
                    timeout_s=int(timeout) if timeout else None,
                    result=params.get(told + "DefaultResult", "ABANDON"),
                )
            )
        return specs


class Hooks:
    """Who waits for which hook. ``clock`` counts seconds, from whenever."""

    def __init__(self, backend: Callable[[], AutoScalingBackend], *, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._clock = clock
        self._waiting: dict[str, dict[str, float]] = {}  # deadlines by instance and hook

    def add(self, group: str, specs: Sequence[HookSpec]) -> None:
        for spec in specs:
            self._backend().create_lifecycle_hook(spec.name, group, spec.transition, spec.timeout_s, spec.result)

    def forget(self, group: str) -> None:
        """The group goes, and its hooks with it."""
        for hook in self._backend().describe_lifecycle_hooks(group):
            self._backend().delete_lifecycle_hook(group, hook.name)

    def hold(self, group: str, instance_id: str) -> bool:
        """Whether the instance has to wait, from now on."""
        hooks = self._on_termination(group)
        if hooks:
            self._waiting[instance_id] = {hook.name: self._clock() + hook.heartbeat_timeout for hook in hooks}
        return bool(hooks)

    def complete(self, hook: str, instance_id: str) -> bool:
        """One of the instance's hooks is done. False when it does not wait for this one."""
        return self._waiting.get(instance_id, {}).pop(hook, None) is not None

    def free(self) -> Sequence[str]:
        """The instances whose wait has ended since it was asked last."""
        now = self._clock()
        over = [one for one, hooks in self._waiting.items() if all(now >= deadline for deadline in hooks.values())]
        for instance_id in over:
            del self._waiting[instance_id]
        return over

    def _on_termination(self, group: str) -> Sequence[LifecycleHook]:
        hooks = self._backend().describe_lifecycle_hooks(group)
        return [hook for hook in hooks if hook.lifecycle_transition == _TERMINATING]
