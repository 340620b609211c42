"""What is not spent yet, but was begun: until the nodes that run, start or were just ordered have idled out. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from control_plane.budget import BOOT_GUESS_S, scopes, start_cost
from control_plane.model import Model
from control_plane.nodes import UNASKED, Cause, NodeId
from control_plane.rates import Sizes
from control_plane.world import World


class Commitments:
    """Of one tick; micro-dollars."""

    def __init__(self, world: World, sizes: Sizes) -> None:
        self._world = world
        self._sizes = sizes
        self._promised: list[tuple[Cause, int]] = []

    def of_start(self, model: Model) -> int:
        """What a node that is started now will cost at least."""
        return start_cost(model, self._usual_start_s(model.name), self._sizes)

    def boot_s(self, name: str) -> float:
        """How long a start of this model takes, as far as is known."""
        usual_s = self._usual_start_s(name)
        return BOOT_GUESS_S if usual_s is None else usual_s

    def promise(self, model: Model, cause: Cause) -> None:
        """This tick starts one more."""
        self._promised.append((cause, self.of_start(model)))

    def begun(self, still_s: Mapping[NodeId, float]) -> Mapping[str, int]:
        """By scope, with how long each node still lives if nobody asks it anything more."""
        ahead: dict[str, int] = defaultdict(int)
        for cause, amount in (*self._promised, *self._living(still_s), *self._ordered()):
            for scope in scopes(cause):
                ahead[scope] += amount
        return ahead

    def _living(self, still_s: Mapping[NodeId, float]) -> Iterator[tuple[Cause, int]]:
        for node in self._world.nodes:
            yield node.cause, round(still_s[node.id] * node.micro_usd_per_hour / 3600)

    def _ordered(self) -> Iterator[tuple[Cause, int]]:
        """Launches whose end is not known; one that goes on here may have written its intent already, or not."""
        ordered = [(launch.model, launch.cause) for launch in self._world.launches]
        ordered += [(name, UNASKED) for name in self._world.launching - {name for name, _ in ordered}]
        for name, cause in ordered:
            if name in self._world.models:
                yield cause, self.of_start(self._world.models[name])

    def _usual_start_s(self, name: str) -> float | None:
        history = self._world.history.get(name)
        return history.usual_start_s if history else None
