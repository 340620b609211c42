"""The agent: takes one node from its first word to its last.

    introduce itself -> driver -> the model's row -> engine -> phases -> ready -> heartbeats -> halt

One thread, one loop; each turn looks at the engine, writes a report when there is news or a heartbeat is due, and asks
lease.py whether the node should still exist. The end of the agent is the end of the machine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from gpu_node import phases
from gpu_node.engine import EngineSpec, InvalidSpec, Line, Load
from gpu_node.imds import Identity, MetadataUnavailable
from gpu_node.lease import Halt, LeasePolicy, Situation, decide
from gpu_node.protocol import Failure, NodeState, Orders, Phase, Report
from gpu_node.settings import NodeSettings
from gpu_node.table import ModelName, ModelRow, TableUnavailable

log = logging.getLogger("diogenes.node")

STOP_GRACE_S = 15.0
"""What the engine gets to end its streams and let go of the GPUs."""

TABLE_RETRY_S = 1.0
LEAVE_ATTEMPTS = 5
LEAVE_RETRY_S = 2.0


class NodeTable(Protocol):
    """See table.Table; every method raises TableUnavailable."""

    def report(self, report: Report) -> Orders: ...

    def model(self, name: ModelName) -> ModelRow | None: ...

    def terminate_self(self, instance_id: str) -> None: ...


class EngineOutput(Protocol):
    @property
    def tail(self) -> Sequence[str]: ...

    def take(self) -> Sequence[Line]: ...


class RunningEngine(Protocol):
    """See engine.Engine."""

    @property
    def output(self) -> EngineOutput: ...

    def exit_code(self) -> int | None: ...

    def healthy(self) -> bool: ...

    def load(self) -> Load | None: ...

    def stop(self, grace_s: float) -> None: ...


class Agent:
    """The life of one node. ``run`` returns the process's exit code: 1 when the engine failed, else 0."""

    def __init__(
        self,
        settings: NodeSettings,
        identity: Identity,
        *,
        table: NodeTable,
        start_engine: Callable[[EngineSpec], RunningEngine],
        gpu_answers: Callable[[], bool],
        taken_down: Callable[[], bool],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """``start_engine`` raises FileNotFoundError where the program is missing; ``taken_down`` says whether the
        node's group takes it down, or raises MetadataUnavailable."""
        self._settings = settings
        self._identity = identity
        self._table = table
        self._start_engine = start_engine
        self._gpu_answers = gpu_answers
        self._taken_down = taken_down
        self._clock = clock
        self._sleep = sleep
        self._policy = LeasePolicy(blind_limit_s=settings.blind_limit_s, busy_limit_s=settings.busy_limit_s)

        self._started_at = clock()
        self._tracker = phases.PhaseTracker(self._started_at)
        self._state = NodeState.BOOTING
        self._engine: RunningEngine | None = None
        self._failure: Failure | None = None
        self._load: Load | None = None
        self._answered_at = self._started_at  # by the engine
        self._stopping = False
        self._taken_down_at: float | None = None
        self._asked_at: float | None = None  # whether it is taken down

        self._orders: Orders | None = None
        self._read_at: float | None = None
        self._written: NodeState | None = None  # the state in the last report that arrived
        self._news = True
        self._table_retry_at = 0.0
        self._table_lost = False
        self._last_error = ""

    def stop(self) -> None:
        """End the engine and the agent at the next turn. Safe in a signal handler."""
        self._stopping = True

    def run(self) -> int:
        log.info("agent started", extra={"model": self._settings.model, "instance": self._identity.instance_id})
        while True:
            code = self.turn()
            if code is not None:
                return code
            ready = self._state is NodeState.READY
            self._sleep(self._settings.poll_s if ready else self._settings.boot_poll_s)

    def turn(self) -> int | None:
        """One look at everything; an exit code when it was the last."""
        if self._stopping:
            log.info("told to stop", extra={"state": str(self._state)})
            self._stop_engine()
            return 0
        try:
            self._report_news()
            self._advance()
            self._report_news()
            self._ask_whether_taken_down()
        except Exception as error:  # noqa: BLE001 - the lease must be judged whatever breaks here
            self._log_once(error)
        return self._judge()

    # -- the engine ------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        if self._state is NodeState.FAILED:
            return
        if self._engine is None:
            self._boot()
        else:
            self._watch(self._engine)

    def _boot(self) -> None:
        if self._settings.driver_check and self._enter(Phase.DRIVER):
            self._report_news()
            if not self._gpu_answers():
                self._fail(phases.DRIVER_MISSING)
                return
        row = self._model_row()
        if row is None or self._state is NodeState.FAILED:
            return
        try:
            spec = EngineSpec.from_row(row.config, row.override)
            self._enter(Phase.ENGINE_INSTALL)
            self._engine = self._start_engine(spec)
        except InvalidSpec as error:
            self._fail(phases.bad_configuration(str(error)))
        except FileNotFoundError:
            self._fail(phases.ENGINE_MISSING)

    def _model_row(self) -> ModelRow | None:
        """None when there is nothing to start (yet)."""
        if self._clock() < self._table_retry_at:
            return None
        try:
            row = self._table.model(ModelName(self._settings.model))
        except TableUnavailable as error:
            self._table_failed(error)
            return None
        if row is None:
            self._fail(phases.NOT_CONFIGURED)
        return row

    def _watch(self, engine: RunningEngine) -> None:
        code = engine.exit_code()
        for line in engine.output.take():
            if self._tracker.read(line.text, line.at):
                self._entered(self._tracker.current)
        if code is not None:
            booting = self._state is NodeState.BOOTING
            self._fail(phases.explain(code, engine.output.tail) if booting else phases.crashed(code))
        elif self._state is NodeState.BOOTING:
            self._await_ready(engine)
        else:
            self._measure(engine)

    def _await_ready(self, engine: RunningEngine) -> None:
        now = self._clock()
        if engine.healthy():
            self._state = NodeState.READY
            self._answered_at = now
            self._news = True
            log.info("node ready", extra={"after_s": round(now - self._started_at, 3)})
        elif now - self._started_at >= self._settings.boot_limit_s:
            self._fail(phases.BOOT_TIMEOUT)

    def _measure(self, engine: RunningEngine) -> None:
        now = self._clock()
        self._load = engine.load()
        if self._load is not None:
            self._answered_at = now
        elif now - self._answered_at >= self._settings.unresponsive_limit_s:
            self._fail(phases.UNRESPONSIVE)

    def _enter(self, phase: Phase) -> bool:
        entered = self._tracker.enter(phase, self._clock())
        if entered:
            self._entered(phase)
        return entered

    def _entered(self, phase: Phase) -> None:
        self._news = True
        log.info("phase began", extra={"phase": str(phase)})

    def _fail(self, failure: Failure) -> None:
        self._state = NodeState.FAILED
        self._failure = failure
        self._load = None
        self._news = True
        log.error("node failed", extra={"code": failure.code, "reason": failure.message})

    # -- the table -------------------------------------------------------------------------------------------------

    def _report_news(self) -> None:
        # Twice at most: the first report of all says BOOTING, whatever has happened since, because the table of
        # moves knows no way into READY or FAILED for a row that is not there.
        for _ in range(2):
            now = self._clock()
            due = self._read_at is None or now - self._read_at >= self._settings.heartbeat_s
            if now < self._table_retry_at or not (self._news or due):
                return
            self._report(now)

    def _report(self, now: float) -> None:
        state = self._state if self._written else NodeState.BOOTING
        try:
            orders = self._table.report(self._compose(state, now))
        except TableUnavailable as error:
            self._table_failed(error)
            return
        if self._table_lost:
            self._table_lost = False
            log.info("table answers again")
        if self._orders is None or orders.state is not self._orders.state:
            log.info("orders changed", extra={"state": str(orders.state)})
        self._orders, self._read_at, self._written = orders, now, state
        self._news = state is not self._state

    def _compose(self, state: NodeState, now: float) -> Report:
        tail = self._engine.output.tail if self._engine and self._state is not NodeState.READY else ()
        return Report(
            instance_id=self._identity.instance_id,
            model=self._settings.model,
            state=state,
            heartbeat_at=now,
            ip=self._identity.ip,
            instance_type=self._identity.instance_type,
            zone=self._identity.zone,
            market=self._identity.market,
            phases=self._tracker.records,
            running=self._load.running if self._load else 0,
            waiting=self._load.waiting if self._load else 0,
            log_tail=tail,
            error=self._failure if state is NodeState.FAILED else None,
        )

    def _table_failed(self, error: TableUnavailable) -> None:
        self._table_retry_at = self._clock() + TABLE_RETRY_S
        if not self._table_lost:
            self._table_lost = True
            log.warning("table unavailable", extra={"reason": str(error)})

    # -- the end ---------------------------------------------------------------------------------------------------

    def _judge(self) -> int | None:
        if self._state is NodeState.FAILED and self._written is NodeState.FAILED:
            self._leave("the engine failed")
            return 1
        situation = Situation(
            self._started_at,
            self._busy,
            orders=self._orders,
            read_at=self._read_at,
            taken_down_at=self._taken_down_at,
        )
        verdict = decide(situation, self._clock(), self._policy)
        if isinstance(verdict, Halt):
            self._leave(verdict.reason)
            return 0
        return None

    def _ask_whether_taken_down(self) -> None:
        now = self._clock()
        lately = self._asked_at is not None and now - self._asked_at < self._settings.heartbeat_s
        if lately or self._taken_down_at is not None:
            return
        self._asked_at = now
        try:
            taken_down = self._taken_down()
        except MetadataUnavailable:
            return  # asked again soon; without an answer the lease alone decides
        if taken_down:
            log.info("the group takes this node down")
            self._taken_down_at = now

    @property
    def _busy(self) -> bool:
        if self._state is not NodeState.READY:
            return False
        # An engine that does not tell may well be at work; `_measure` bounds how long that is believed.
        return self._load is None or self._load.running + self._load.waiting > 0

    def _leave(self, reason: str) -> None:
        log.info("node halts", extra={"reason": reason})
        self._stop_engine()
        for _ in range(LEAVE_ATTEMPTS):
            try:
                self._table.terminate_self(self._identity.instance_id)
            except TableUnavailable as error:
                self._table_failed(error)
                self._sleep(LEAVE_RETRY_S)
            else:
                return
        # The machine goes off all the same; the control plane takes the group's wish for it back.
        log.error("could not leave the group", extra={"attempts": LEAVE_ATTEMPTS})

    def _stop_engine(self) -> None:
        if self._engine is not None:
            self._engine.stop(STOP_GRACE_S)

    def _log_once(self, error: Exception) -> None:
        if repr(error) != self._last_error:
            self._last_error = repr(error)
            log.error("agent error", exc_info=error)
