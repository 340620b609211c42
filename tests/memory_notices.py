"""How far notices are, in memory, and a channel that keeps what it was given."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from control_plane.errors import Stale
from control_plane.notice import Notice, NoticeAdapters, Progress
from tests.memory import Fallible


@dataclass
class MemoryNotices(Fallible):
    rows: dict[str, Progress] = field(default_factory=dict)

    async def read(self, channel: str) -> Progress:
        return self.rows.get(channel, Progress())

    async def write(self, channel: str, progress: Progress) -> Progress:
        if self.rows.get(channel, Progress()).version != progress.version:
            raise Stale(channel)
        self.rows[channel] = replace(progress, version=progress.version + 1)
        return self.rows[channel]


@dataclass
class MemoryChannel(Fallible):
    name: str = "mail"
    sent: list[Notice] = field(default_factory=list)

    async def send(self, notice: Notice) -> None:
        self.sent.append(notice)

    @property
    def messages(self) -> list[str]:
        return [entry.event.message for notice in self.sent for entry in notice.entries]


@dataclass
class Notices:
    """All of it, with one channel unless a test wants more."""

    store: MemoryNotices = field(default_factory=MemoryNotices)
    channel: MemoryChannel = field(default_factory=MemoryChannel)

    @property
    def adapters(self) -> NoticeAdapters:
        return NoticeAdapters(self.store, [self.channel])
