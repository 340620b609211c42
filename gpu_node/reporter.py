"""The agent's side of its row: what was written last, what came back, when to write again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from gpu_node.lease import Lease
from gpu_node.protocol import NodeState, Orders, Report
from gpu_node.table import ModelName, ModelRow, TableUnavailable

log = logging.getLogger("diogenes.node")

TABLE_RETRY_S = 1.0


class NodeTable(Protocol):
    """See table.Table; every method raises TableUnavailable."""

    def report(self, report: Report) -> Orders: ...

    def model(self, name: ModelName) -> ModelRow | None: ...

    def terminate_self(self, instance_id: str) -> None: ...


# The table of moves knows no other way into a state: what comes before it has to be written first.
_BEFORE = {NodeState.READY: NodeState.BOOTING, NodeState.FAILED: NodeState.BOOTING, NodeState.DRAINING: NodeState.READY}


class Reporter:
    """Writes a report when there is news or a heartbeat is due. A table that does not answer is asked again."""

    def __init__(self, table: NodeTable, *, clock: Callable[[], float], heartbeat_s: float) -> None:
        self._table = table
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self.orders: Orders | None = None  # as last read
        self.read_at: float | None = None
        self.lease = Lease()
        self.written: NodeState | None = None  # the state in the last report that arrived
        self._news = True
        self._retry_at = 0.0
        self._lost = False

    def news(self) -> None:
        """The next report is not to wait for a heartbeat."""
        self._news = True

    def report(self, state: NodeState, compose: Callable[[NodeState, float], Report]) -> None:
        """Tell where the node stands, where that is due; ``compose`` makes the report of a state and a time."""
        for _ in _BEFORE:  # a node that got far unseen catches up
            now = self._clock()
            due = self.read_at is None or now - self.read_at >= self._heartbeat_s
            if now < self._retry_at or not (self._news or due):
                return
            self._write(state, self._next(state), compose, now)

    def model(self, name: ModelName) -> ModelRow | None:
        """The model's row. Raises TableUnavailable, for a moment also without asking."""
        if self._clock() < self._retry_at:
            raise TableUnavailable("it did not answer just now")
        try:
            return self._table.model(name)
        except TableUnavailable as error:
            self.failed(error)
            raise

    def failed(self, error: TableUnavailable) -> None:
        """AWS did not answer: not asked again at once, and logged once."""
        self._retry_at = self._clock() + TABLE_RETRY_S
        if not self._lost:
            self._lost = True
            log.warning("table unavailable", extra={"reason": str(error)})

    def _next(self, state: NodeState) -> NodeState:
        while (before := _BEFORE.get(state)) and not self._has_been(before):
            state = before
        return state

    def _has_been(self, state: NodeState) -> bool:
        return self.written is not None and (state is NodeState.BOOTING or self.written is not NodeState.BOOTING)

    def _write(
        self, wanted: NodeState, state: NodeState, compose: Callable[[NodeState, float], Report], now: float
    ) -> None:
        try:
            orders = self._table.report(compose(state, now))
        except TableUnavailable as error:
            self.failed(error)
            return
        if self._lost:
            self._lost = False
            log.info("table answers again")
        if self.orders is None or orders.state is not self.orders.state:
            log.info("orders changed", extra={"state": str(orders.state)})
        self.orders, self.read_at, self.written = orders, now, state
        self.lease.read(orders.lease_until, now)
        self._news = state is not wanted
