"""What one inference request went through, and when: what is counted of it, and what is traced."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.spans import Context

HUNG_UP = 499
"""The status of a request whose client left before its answer was complete, as nginx has it in its log."""


@dataclass(slots=True, eq=False)
class Passage:
    """Times are Unix seconds; 0 means that it never came so far."""

    route: str  # one of the inference paths
    came_at: float
    request_id: str = ""
    model: str = ""  # one of the line-up; empty: it was refused before it named one
    status: int = 200  # the true one, also where the client had been given a 200 before things went wrong
    streamed: bool = False
    upload_s: float = 0.0  # how long its body took to arrive
    asked_at: float = 0.0  # no engine was ready: it began to wait, and its wish was on the way
    wished_at: float = 0.0  # its wish was written
    leased_at: float = 0.0  # its wait was over
    sent_at: float = 0.0  # an engine was asked, the first time
    first_at: float = 0.0  # the first bytes of an answer came
    ended_at: float = 0.0
    node: str = ""  # whose engine was asked last
    trace: Context | None = None  # None: it is not traced
    link: Context | None = None  # of the request whose trace tells of the start that this one waited for, too

    @property
    def cold(self) -> bool:
        """Did it wait for an engine?"""
        return self.asked_at > 0

    @property
    def overhead_s(self) -> float | None:
        """What we took until an engine was asked, without the client's own time; None where there was none ready."""
        return self.sent_at - self.came_at - self.upload_s if self.sent_at and not self.asked_at else None

    @property
    def first_token_s(self) -> float | None:
        """From the whole request to the first bytes of the answer; None where it was not streamed, or never began."""
        return self.first_at - self.came_at - self.upload_s if self.first_at and self.streamed else None
