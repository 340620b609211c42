"""The agent: takes one node from its first word to its last.

    introduce itself -> driver -> the model's row -> engine -> phases -> ready -> heartbeats -> drain -> halt

One thread, one loop; each turn looks at the engine, writes a report when there is news or a heartbeat is due, and asks
lease.py whether the node should still exist. The end of the agent is the end of the machine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gpu_node import crash, phases
from gpu_node.clock import SteadyClock
from gpu_node.engine import SHUTDOWN_TIMEOUT_S, EngineSpec, InvalidSpec
from gpu_node.imds import Identity, MetadataUnavailable
from gpu_node.lease import Departure, Drain, Halt, LeasePolicy, Situation, decide
from gpu_node.protocol import Failure, NodeState, Phase, Report
from gpu_node.reporter import NodeTable, Reporter
from gpu_node.settings import NodeSettings
from gpu_node.spot import NONE, Notice, SpotWatch
from gpu_node.table import ModelName, ModelRow, TableUnavailable
from gpu_node.vitals import RunningEngine, VitalLimits, Vitals

log = logging.getLogger("diogenes.node")

STOP_GRACE_S = SHUTDOWN_TIMEOUT_S + 15.0
"""What the engine gets to end its streams and let go of the GPUs."""

FAILED_GRACE_S = 5.0
"""The same, of an engine that failed: nothing of it is worth waiting for."""

LATEST_START_S = 1800.0
"""No agent starts later than this after its machine: by then the dead man has switched it off."""

LEAVE_ATTEMPTS = 5
LEAVE_RETRY_S = 2.0
LEAVE_LIMIT_S = 30.0
"""No try to leave the group begins later than this: the machine costs money all the while."""

_SERVING = (NodeState.READY, NodeState.DRAINING)


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
        clock: SteadyClock,
        sleep: Callable[[float], None],
        alive: Callable[[], None] = lambda: None,
        spot_notice: Callable[[], Notice] = lambda: NONE,
    ) -> None:
        """``start_engine`` raises FileNotFoundError where the program is missing; ``taken_down`` says whether the
        node's group takes it down, ``spot_notice`` what AWS has announced, or they raise MetadataUnavailable; ``alive``
        hears of every turn."""
        self._settings = settings
        self._identity = identity
        self._table = table
        self._start_engine = start_engine
        self._gpu_answers = gpu_answers
        self._taken_down = taken_down
        self._clock = clock
        self._sleep = sleep
        self._alive = alive
        self._policy = LeasePolicy(
            blind_limit_s=settings.blind_limit_s,
            busy_limit_s=settings.busy_limit_s,
            notice_s=settings.notice_s,
            max_lifetime_s=settings.max_lifetime_s,
        )
        self._phase_limits = _phase_limits(settings)

        self._started_at = clock()
        # A machine is paid for from its launch on, which AWS tells by another clock than ours.
        told = identity.launched_at or self._started_at
        self._launched_at = min(max(told, self._started_at - LATEST_START_S), self._started_at)
        self._tracker = phases.PhaseTracker(self._started_at)
        self._reporter = Reporter(table, clock=clock, heartbeat_s=settings.heartbeat_s)
        self._state = NodeState.BOOTING
        self._engine: RunningEngine | None = None
        self._vitals: Vitals | None = None  # once it is ready
        self._failure: Failure | None = None
        self._failed_at = 0.0
        self._departure: Departure | None = None
        self._asked_at: float | None = None  # whether it is taken down
        self._drain_reason = ""
        self._stopping = False
        self._spot = SpotWatch(spot_notice, clock=clock)
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
            serving = self._state in _SERVING
            self._sleep(self._settings.poll_s if serving else self._settings.boot_poll_s)

    def turn(self) -> int | None:
        """One look at everything; an exit code when it was the last."""
        self._alive()
        if self._stopping:
            log.info("told to stop", extra={"state": str(self._state)})
            self._withdraw("the machine is shut down")
            self._stop_engine()
            return 0
        try:
            if self._engine is None:
                self._report()  # before its start, which may take long
            self._advance()
            self._report()  # what the engine says now, and not what it said a turn ago
            self._ask_the_clock()
            self._ask_whether_taken_down()
            self._ask_for_notice()
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
        if self._state is NodeState.BOOTING and self._engine is not None:
            self._mind_the_time()

    def _boot(self) -> None:
        if self._settings.driver_check and self._enter(Phase.DRIVER):
            self._report()
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
        try:
            row = self._reporter.model(ModelName(self._settings.model))
        except TableUnavailable:
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
            explain = phases.explain if self._state is NodeState.BOOTING else crash.explain
            self._fail(explain(code, engine.output.tail, starved=engine.starved))
        elif self._vitals is None:
            self._await_ready(engine)
        elif failure := self._vitals.check():
            self._fail(failure)

    def _await_ready(self, engine: RunningEngine) -> None:
        if not engine.healthy():
            return
        settings = self._settings
        limits = VitalLimits(settings.unresponsive_limit_s, settings.suspect_after_s, settings.probe_limit_s)
        self._vitals = Vitals(engine, clock=self._clock, limits=limits)
        self._state = NodeState.READY
        self._reporter.news()
        log.info("node ready", extra={"after_s": round(self._clock() - self._started_at, 3)})

    def _mind_the_time(self) -> None:
        limit_s = self._settings.boot_limit_s
        late = phases.overdue(self._tracker.records, self._clock(), limits=self._phase_limits, whole_s=limit_s)
        if late:
            self._fail(late)

    def _enter(self, phase: Phase) -> bool:
        entered = self._tracker.enter(phase, self._clock())
        if entered:
            self._entered(phase)
        return entered

    def _entered(self, phase: Phase) -> None:
        self._reporter.news()
        log.info("phase began", extra={"phase": str(phase)})

    def _fail(self, failure: Failure) -> None:
        self._state = NodeState.FAILED
        self._failure = failure
        self._failed_at = self._clock()
        self._vitals = None
        self._reporter.news()
        log.error("node failed", extra={"code": failure.code, "reason": failure.message})

    # -- the report ------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        self._reporter.report(self._state, self._compose)

    def _compose(self, state: NodeState, now: float) -> Report:
        tail = self._engine.output.tail if self._engine and self._state not in _SERVING else ()
        load = self._vitals.load if self._vitals else None
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
            running=load.running if load else 0,
            waiting=load.waiting if load else 0,
            interruption_at=self._spot.notice.interruption_at,
            rebalance_at=self._spot.notice.rebalance_at,
            log_tail=tail,
            error=self._failure if state is NodeState.FAILED else None,
            reason=self._drain_reason,
        )

    # -- the end ---------------------------------------------------------------------------------------------------

    def _ask_the_clock(self) -> None:
        drift_s = self._clock.drift_s
        if abs(drift_s) >= self._settings.clock_jump_s:
            self._depart(f"its clock jumped by {drift_s:.0f} s")

    def _ask_whether_taken_down(self) -> None:
        now = self._clock()
        if self._asked_at is not None and now - self._asked_at < self._settings.heartbeat_s:
            return
        self._asked_at = now
        try:
            taken_down = self._taken_down()
        except MetadataUnavailable:
            return  # asked again soon; without an answer the lease alone decides
        if taken_down:
            self._depart("its group takes it down")

    def _ask_for_notice(self) -> None:
        """On Spot; what there is goes into the next report, which comes at once."""
        if self._identity.market != "spot":
            return
        try:
            news = self._spot.look()
        except MetadataUnavailable:
            return  # asked again soon
        if news:
            log.warning("AWS announced something to this Spot instance", extra=vars(self._spot.notice))
            self._reporter.news()

    def _depart(self, reason: str) -> None:
        """It has to go, though its engine and its lease are well; the first reason counts from when it was known."""
        if self._departure is None:
            log.info("node has to go", extra={"reason": reason})
            self._departure = Departure(reason, self._clock())

    def _judge(self) -> int | None:
        if self._state is NodeState.FAILED and self._has_told_failure():
            self._leave("the engine failed")
            return 1
        situation = Situation(
            self._started_at,
            self._launched_at,
            self._vitals is not None and self._vitals.busy,
            orders=self._reporter.orders,
            lease_ends_at=self._reporter.lease.ends_at,
            read_at=self._reporter.read_at,
            departure=self._departure,
        )
        match decide(situation, self._clock(), self._policy):
            case Halt(reason):
                self._leave(reason)
                return 0
            case Drain(reason):
                self._withdraw(reason)
        return None

    def _has_told_failure(self) -> bool:
        """Or tried to for long enough: a machine without an engine is of no use, whoever knows of it."""
        told = self._reporter.written is NodeState.FAILED
        return told or self._clock() - self._failed_at >= self._settings.notice_s

    def _withdraw(self, reason: str) -> None:
        """Out of routing: whoever sends it requests shall know before the engine stops taking them."""
        orders = self._reporter.orders
        routed = orders is None or orders.state in (NodeState.BOOTING, NodeState.READY)
        if self._state is NodeState.READY and routed:
            log.info("node drains", extra={"reason": reason})
            self._state, self._drain_reason = NodeState.DRAINING, reason
            self._reporter.news()
            self._report()

    def _leave(self, reason: str) -> None:
        log.info("node halts", extra={"reason": reason})
        self._withdraw(reason)
        self._stop_engine()
        begun = self._clock()
        for _ in range(LEAVE_ATTEMPTS):
            if self._clock() - begun > LEAVE_LIMIT_S:
                break
            try:
                self._table.terminate_self(self._identity.instance_id)
            except TableUnavailable as error:
                self._reporter.failed(error)
                self._sleep(LEAVE_RETRY_S)
            else:
                return
        # The machine goes off all the same; the control plane takes the group's wish for it back.
        log.error("could not leave the group")

    def _stop_engine(self) -> None:
        if self._engine is not None:
            self._engine.stop(FAILED_GRACE_S if self._state is NodeState.FAILED else STOP_GRACE_S)

    def _log_once(self, error: Exception) -> None:
        if repr(error) != self._last_error:
            self._last_error = repr(error)
            log.error("agent error", exc_info=error)


def _phase_limits(settings: NodeSettings) -> dict[Phase, float]:
    """Of those that the engine goes through; what comes before it is bounded by what it asks."""
    return {
        Phase.ENGINE_INSTALL: settings.install_limit_s,
        Phase.WEIGHTS: settings.weights_limit_s,
        Phase.LOAD: settings.load_limit_s,
        Phase.COMPILE: settings.compile_limit_s,
        Phase.WARMUP: settings.warmup_limit_s,
    }
