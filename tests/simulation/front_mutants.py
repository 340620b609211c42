"""Planted bugs of the front: who falls asleep, who wakes, and where the listener points."""

from __future__ import annotations

from tests.simulation.planting import Change, Mutant

FRONT = (
    Mutant(
        "listener turns to a task that is not healthy",
        "control_plane.front",
        "yield from _facing(stage, control_plane=healthy)",
        "yield from _facing(stage, control_plane=True)",
        ("front", "wish"),
    ),
    Mutant(
        "task that died is not turned away from",
        "control_plane.front",
        "yield from _facing(stage, control_plane=healthy)",
        "yield from _facing(stage, control_plane=healthy or stage.facing_control_plane)",
        ("front", "wish"),
    ),
    Mutant(
        "task sleeps on a stream",
        "control_plane.slumber",
        "self._busy = busy",
        "self._busy = lambda: False",
        ("stream", "wish"),
    ),
    Mutant(
        "task ends before the listener's turn arrived",
        "control_plane.slumber",
        "now >= self._turned_at + self._propagation_s",
        "now >= self._turned_at",
        ("wish", "stream"),
    ),
    Mutant(
        "task that was just told to end is faced",
        "control_plane.front",
        "stays = front.state is FrontState.AWAKE or now >= front.since + linger_s",
        "stays = True",
        ("wish", "stream", "front"),
        also=(  # it turns the listener back at its end
            Change("control_plane.slumber", "for _ in range(LAST_LOOKS):", "for _ in range(0):"),
        ),
    ),
    Mutant(
        "listener's turn is taken for granted",
        "control_plane.slumber",
        "            self._turned_at = self._clock()\n        if busy",
        "            self._turned_at = front.since\n        if busy",
        ("wish", "stream"),
    ),
    Mutant(
        "count that should be 0 is not mended",
        "control_plane.front",
        "            if stage.desired:\n                yield Want(0)",
        "",
        ("rest",),
    ),
    Mutant(
        "fall is ended neither by its task nor by its limit",
        "control_plane.front",
        "if now > front.since + FALL_LIMIT_S:",
        "if False:",
        ("rest", "front"),
        also=(
            Change(
                "control_plane.slumber",
                "        await self._keeper.move(front, FrontState.ASLEEP)\n",
                "        return\n",
            ),
        ),
    ),
    Mutant(
        "task that sleeps is not woken",
        "control_plane.front",
        "        case FrontState.ASLEEP if wanted and not resting(front, now):\n"
        "            yield from _woken(front, stage)  # 1\n",
        "",
        ("wish", "node"),
    ),
    Mutant(
        "wake is never given up",
        "control_plane.front",
        "if not enough and not _too_long(front, now):",
        "if True:",
        ("wake", "wish"),
    ),
    Mutant(
        "tasks of a wake that ended are not asked for",
        "control_plane.front",
        "return await self._hands.endings(front.since)",
        "return ()",
        ("wake",),
    ),
    Mutant(
        "GPU is launched for a wake that follows a failed one",
        "control_plane.waking",
        "if front is None or front.failure is None:",
        "if True:",
        ("wake",),
    ),
    Mutant(
        "janitor launches for a control plane that does not come up",
        "control_plane.janitor",
        "spared = found.failure is not None",
        "spared = False",
        ("wake",),
        also=(  # what is refused is wished for no longer
            Change(
                "control_plane.routes.asleep",
                "                await self._take_back(model.name, error.failure)\n",
                "                pass\n",
            ),
        ),
    ),
    Mutant(
        "wake after a failed one names no newer definition",
        "control_plane.front",
        "    if front.failure and stage.desired:\n        yield Want(0)",
        "    if False:\n        yield Want(0)",
        ("wake",),
    ),
    Mutant(
        "task that was told to end counts as one that failed",
        "control_plane.endings",
        'if task.get("stopCode") == "UserInitiated" or reason.startswith(_BY_ORDER):',
        "if False:",
        ("wake",),
    ),
    Mutant(
        "task does not look whether its target is taken out",
        "control_plane.departure",
        "elif self._address in stage.draining and",
        "elif False and",
        ("wish",),
    ),
    Mutant(
        "what is open when the load balancer breaks it is not ended before",
        "control_plane.app",
        "call_later(left_s, self._inference.end)",
        "call_later(left_s, lambda: None)",
        ("wish",),
    ),
    Mutant(
        "who uploads is nobody to stay awake for",
        "control_plane.routes.inference",
        "        self._admitted.add(self._task)\n        since = self._clock()\n",
        "        since = self._clock()\n",
        ("stream", "wish"),
        also=(
            Change(
                "control_plane.routes.inference",
                "        passage.upload_s = self._clock() - since\n",
                "        passage.upload_s = self._clock() - since\n        self._admitted.add(self._task)\n",
            ),
        ),
    ),
    Mutant(
        "who was sent on too early is sent on as early again",
        "control_plane.waking",
        "pause_s = min(age_s + self._pace.settle_s, self._pace.max_settle_s)",
        "pause_s = self._pace.settle_s",
        ("wish",),
    ),
)
