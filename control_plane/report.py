"""Usage as it is told: by day, model, key or owner; as CSV; and beside what closed APIs would have asked. Pure.

A day is one of the time zone that is asked for: every zone's offset is a whole number of quarters of an hour, so a
quarter lies in one day. The rows of a report always add up to its total.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, NotRequired, cast
from zoneinfo import ZoneInfo

from typing_extensions import TypedDict

from control_plane.ledger import Account, Entry, add
from control_plane.rates import MICRO

_CLOSED = Path(__file__).with_name("closed_prices.json")


class Figures(TypedDict):
    """What every row counts."""

    micro_usd: int
    requests: int
    prompt_tokens: int
    cached_tokens: int  # of the prompts, found in the prefix cache
    completion_tokens: int
    reasoning_tokens: int  # of the completions
    gpu_seconds: float  # of nodes' lives
    busy_seconds: float  # of those, in use


COLUMNS = tuple(Figures.__annotations__)


class RowEntry(Figures):
    """A line of a report, with the name of what it is for."""

    hour: NotRequired[str]  # its beginning, as 2026-11-29T10:00:00+01:00
    day: NotRequired[str]
    model: NotRequired[str]
    key: NotRequired[str]
    owner: NotRequired[str]


class By(StrEnum):
    """What a row of a report is for."""

    HOUR = "hour"
    DAY = "day"
    MODEL = "model"
    KEY = "key"
    OWNER = "owner"


@dataclass(frozen=True)
class Span:
    """From the first to the last day, both included, of a time zone."""

    first: date
    last: date
    zone: ZoneInfo

    @property
    def since(self) -> float:
        """Unix seconds; the first moment."""
        return _midnight(self.first, self.zone)

    @property
    def until(self) -> float:
        """Unix seconds; the moment after the last."""
        return _midnight(self.last + timedelta(days=1), self.zone)


def _midnight(day: date, zone: ZoneInfo) -> float:
    # By way of UTC: where the clocks skip midnight, the day begins when they say so first.
    return datetime.combine(day, time(), zone).astimezone(UTC).timestamp()


@dataclass(frozen=True)
class Row:
    """One line: whose it is, and the sum of its entries."""

    name: str
    owner: str  # of a key's line
    sum: Entry

    def to_dict(self, by: By) -> RowEntry:
        labels = {str(by): self.name} | ({"owner": self.owner} if by is By.KEY else {})
        return cast(RowEntry, {**labels, **counts(self.sum)})  # By's names are RowEntry's


def rows(found: Iterable[Entry], by: By, zone: ZoneInfo) -> Sequence[Row]:
    """One a day, model, key or owner, in the order of their names; days without anything are left out."""
    name = _names(by, zone)
    sums: dict[tuple[str, str], Entry] = {}
    for entry in found:
        key = name(entry)
        sums[key] = add(sums[key], entry) if key in sums else entry
    return [Row(*key, sums[key]) for key in sorted(sums)]


def total(found: Iterable[Entry]) -> Entry:
    """Everything together."""
    whole = Entry(0, Account("", "", ""))
    for entry in found:
        whole = add(whole, entry)
    return whole


def counts(entry: Entry) -> Figures:
    """An entry's sums as the API tells them."""
    return {
        "micro_usd": entry.micro_usd,
        "requests": entry.requests,
        "prompt_tokens": entry.prompt_tokens,
        "cached_tokens": entry.cached_tokens,
        "completion_tokens": entry.completion_tokens,
        "reasoning_tokens": entry.reasoning_tokens,
        "gpu_seconds": entry.gpu_ms / 1000,
        "busy_seconds": entry.busy_ms / 1000,
    }


def as_csv(told: Sequence[Row], whole: Entry, by: By) -> str:
    """A header, the rows, and the total."""
    out = io.StringIO()
    labels = [str(by), *(["owner"] if by is By.KEY else [])]
    lines = csv.DictWriter(out, [*labels, *COLUMNS], lineterminator="\r\n")
    lines.writeheader()
    for row in told:
        lines.writerow({name: _harmless(value) for name, value in row.to_dict(by).items()})
    lines.writerow({str(by): "total", **counts(whole)})
    return out.getvalue()


def _harmless(value: object) -> object:
    """A spreadsheet takes a text that begins so for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") else value


def _names(by: By, zone: ZoneInfo) -> Callable[[Entry], tuple[str, str]]:
    match by:
        case By.HOUR:
            return lambda entry: (_hour(entry.at, zone), "")
        case By.DAY:
            return lambda entry: (datetime.fromtimestamp(entry.at, zone).date().isoformat(), "")
        case By.MODEL:
            return lambda entry: (entry.account.model, "")
        case By.KEY:
            return lambda entry: (entry.account.key, entry.account.owner)
        case By.OWNER:
            return lambda entry: (entry.account.owner, "")


def _hour(at: float, zone: ZoneInfo) -> str:
    # With its offset: an hour that the clocks repeat is there twice.
    return datetime.fromtimestamp(at, zone).replace(minute=0, second=0, microsecond=0).isoformat()


# -- beside closed APIs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClosedPrice:
    """One closed API's price; micro-dollars a million tokens."""

    name: str
    provider: str
    prompt: int
    cached: int
    completion: int

    def cost(self, used: Entry) -> int:
        """Micro-dollars for the same tokens."""
        fresh = used.prompt_tokens - used.cached_tokens
        parts = fresh * self.prompt + used.cached_tokens * self.cached + used.completion_tokens * self.completion
        return round(parts / MICRO)


@dataclass(frozen=True)
class ClosedPrices:
    """A dated list, and where it was read."""

    date: date
    source: str
    models: Sequence[ClosedPrice]


@cache
def closed_prices() -> ClosedPrices:
    """The list that came with this version."""
    told = json.loads(_CLOSED.read_text())
    models = tuple(_closed_price(name, row) for name, row in told["models"].items())
    return ClosedPrices(date.fromisoformat(told["date"]), told["source"], models)


def _closed_price(name: str, row: Mapping[str, Any]) -> ClosedPrice:
    prices = (round(row[key] * MICRO) for key in ("promptUsd", "cachedUsd", "completionUsd"))
    return ClosedPrice(name, row["provider"], *prices)


class PriceListEntry(TypedDict):
    """Which list of prices it is."""

    date: str
    source: str


class BesideEntry(TypedDict):
    """One closed API beside what was used here."""

    name: str
    provider: str
    micro_usd: int  # what the same tokens would have cost there
    usd_per_million_tokens: float | None  # at the same mix
    break_even_tokens_per_gpu_hour: int | None
    cheaper_here: bool | None


class BreakEven(TypedDict):
    """What was used here beside all of the list."""

    micro_usd: int
    tokens: int
    usd_per_million_tokens: float | None
    tokens_per_gpu_hour: int | None
    prices: PriceListEntry
    closed: list[BesideEntry]


def break_even(used: Entry) -> BreakEven:
    """What the same tokens would have cost elsewhere, and from how many tokens an hour on a node is the cheaper one.

    ``tokens_per_gpu_hour`` is at this mix of tokens and at what an hour of our nodes really cost, idle time included;
    None where nothing was asked, or no node ran.
    """
    listed = closed_prices()
    tokens = used.prompt_tokens + used.completion_tokens
    hours = used.gpu_ms / 3_600_000
    return {
        "micro_usd": used.micro_usd,
        "tokens": tokens,
        "usd_per_million_tokens": _per_million(used.micro_usd, tokens),
        "tokens_per_gpu_hour": round(tokens / hours) if hours else None,
        "prices": {"date": listed.date.isoformat(), "source": listed.source},
        "closed": [_beside(price, used, tokens, hours) for price in listed.models],
    }


def _beside(price: ClosedPrice, used: Entry, tokens: int, hours: float) -> BesideEntry:
    elsewhere = price.cost(used)
    needed = round(used.micro_usd / hours * tokens / elsewhere) if hours and elsewhere else None
    return {
        "name": price.name,
        "provider": price.provider,
        "micro_usd": elsewhere,
        "usd_per_million_tokens": _per_million(elsewhere, tokens),
        "break_even_tokens_per_gpu_hour": needed,
        "cheaper_here": used.micro_usd < elsewhere if tokens else None,
    }


def _per_million(micro_usd: int, tokens: int) -> float | None:
    """US dollars; micro-dollars a token are dollars a million of them."""
    return round(micro_usd / tokens, 4) if tokens else None
