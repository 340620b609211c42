"""What a month may cost, and what follows where it is spent. Pure.

Each scope (the deployment, a person, a key, starts on speculation) may have a limit and a cap. From 80 per cent of the
limit on it is told; nothing is started that would go beyond the limit, its boot and its idle time counted; beyond the
cap nothing is served, and what runs is drained. Months are of UTC, as AWS's are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Literal

from typing_extensions import TypedDict

from control_plane.books import Limit
from control_plane.model import Model
from control_plane.nodes import NOBODY, Cause
from control_plane.rates import MICRO, Sizes, micro, node_rate
from gpu_node.protocol import Failure

DEPLOYMENT = "deployment"
SPECULATIVE = "speculative"
WARN_PERCENT = 80
CODE = "budget_exceeded"
BOOT_GUESS_S = 300.0  # how long a start takes that was never seen

_WORDS = {DEPLOYMENT: "this deployment", SPECULATIVE: "starts on speculation"}


class BudgetState(StrEnum):
    """How far a budget is spent."""

    OK = "ok"
    WARN = "warn"  # 80 per cent are gone
    EXHAUSTED = "exhausted"  # nothing starts any more
    CAPPED = "capped"  # nothing runs any more


class StandingEntry(TypedDict):
    """One scope's month as the API tells it; micro-dollars."""

    scope: str
    limit: int
    hard_cap: int
    warn_at: int
    spent: int
    state: Literal["ok", "warn", "exhausted", "capped"]


@dataclass(frozen=True)
class Standing:
    """One scope's month."""

    limit: Limit
    spent: int  # micro-dollars

    @property
    def state(self) -> BudgetState:
        if self.spent >= self.limit.cap_micro_usd:
            return BudgetState.CAPPED
        if self.spent >= self.limit.micro_usd:
            return BudgetState.EXHAUSTED
        return BudgetState.WARN if self.spent >= self.warn_at else BudgetState.OK

    @property
    def warn_at(self) -> int:
        return self.limit.micro_usd * WARN_PERCENT // 100

    def to_dict(self) -> StandingEntry:
        return {
            "scope": self.limit.scope,
            "limit": self.limit.micro_usd,
            "hard_cap": self.limit.cap_micro_usd,
            "warn_at": self.warn_at,
            "spent": self.spent,
            "state": self.state.value,
        }


@dataclass(frozen=True)
class Allowance:
    """What is configured; the owner's own limits go before it. US dollars a month."""

    monthly_usd: float = 100.0
    user_monthly_usd: float = 100.0  # for each person that has no limit of their own
    speculative_usd: float = 5.0
    hard_cap_percent: float = 120.0  # of a limit

    def limit(self, scope: str) -> Limit | None:
        """What holds for a scope where nobody set anything; a key has no limit then."""
        known = self._limits.get(scope)
        if known is None and scope.startswith("user:"):
            known = self._limits[scope] = replace(self._limits["user:"], scope=scope)
        return known

    @cached_property
    def _limits(self) -> dict[str, Limit]:
        """Asked for at every look at a budget; of people, those that were asked for."""
        each = {DEPLOYMENT: self.monthly_usd, SPECULATIVE: self.speculative_usd, "user:": self.user_monthly_usd}
        return {scope: self.of(scope, usd) for scope, usd in each.items()}

    def of(self, scope: str, usd: float) -> Limit:
        """A limit of so many dollars, with the configured cap."""
        return Limit(scope, micro(usd), micro(usd * self.hard_cap_percent / 100))


@dataclass(frozen=True)
class Budgets:
    """Every scope's month as it stands now."""

    allowance: Allowance = field(default_factory=Allowance)
    limits: Mapping[str, Limit] = field(default_factory=dict)  # set by the owner
    spent: Mapping[str, int] = field(default_factory=dict)  # micro-dollars by scope

    def standing(self, scope: str) -> Standing | None:
        """None where nothing limits it."""
        limit = self.limits.get(scope) or self.allowance.limit(scope)
        return Standing(limit, self.spent.get(scope, 0)) if limit else None

    def standings(self, *others: str) -> Sequence[Standing]:
        """Of every scope that is limited, and was set or drawn on, or is one of the others."""
        scopes = dict.fromkeys((DEPLOYMENT, SPECULATIVE, *sorted({*self.limits, *self.spent, *others})))
        return [standing for scope in scopes if (standing := self.standing(scope))]

    def state(self, scope: str) -> BudgetState:
        standing = self.standing(scope)
        return standing.state if standing else BudgetState.OK

    def with_spent(self, more: Mapping[str, int]) -> Budgets:
        """The same, with so much more spent."""
        if not more:
            return self
        spent = defaultdict(int, self.spent)
        for scope, amount in more.items():
            spent[scope] += amount
        return replace(self, spent=spent)

    def with_key(self, key: str, monthly_usd: float | None) -> Budgets:
        """The same, with the limit that a key itself carries, unless the owner set another."""
        scope = f"key:{key}"
        if monthly_usd is None or scope in self.limits:
            return self
        return replace(self, limits={**self.limits, scope: self.allowance.of(scope, monthly_usd)})

    def start_refused(self, cause: Cause, cost: int, committed: Mapping[str, int] | None = None) -> Failure | None:
        """Why a start that costs so much may not begin on this account; ``committed`` is what is begun already."""
        for standing in self._of(cause):
            ahead = (committed or {}).get(standing.limit.scope, 0)
            if standing.spent + ahead + cost > standing.limit.micro_usd:
                return _refusal(standing, f"a start costs about {dollars(cost)} more before it has idled out")
        return None

    def use_refused(self, cause: Cause) -> Failure | None:
        """Why this account may not even use what runs."""
        for standing in self._of(cause):
            if standing.state is BudgetState.CAPPED:
                return _refusal(standing, f"the hard cap of {dollars(standing.limit.cap_micro_usd)} is reached")
        return None

    def _of(self, cause: Cause) -> Iterable[Standing]:
        return [standing for scope in scopes(cause) if (standing := self.standing(scope))]


def scopes(cause: Cause) -> Sequence[str]:
    """Whose budgets an account draws on, the widest first."""
    found = [DEPLOYMENT]
    if cause.speculative:
        found.append(SPECULATIVE)
    if cause.owner != NOBODY:
        found.append(f"user:{cause.owner}")
    if cause.key:
        found.append(f"key:{cause.key}")
    return found


def start_cost(model: Model, usual_start_s: float | None, sizes: Sizes) -> int:
    """Micro-dollars until a node that is started now has idled out, if one short question comes: boot and idle time.

    Of the dearest of its instance types, On-Demand: which one there will be is not known.
    """
    seconds = round((BOOT_GUESS_S if usual_start_s is None else usual_start_s) + model.idle_timeout_s)
    rates = [node_rate(kind, sizes) for kind in model.instance_types]
    return max(rate.at_launch + rate.per_hour * seconds // 3600 for rate in rates)


def dollars(micro_usd: int) -> str:
    return f"{micro_usd / MICRO:.2f} $"


def _refusal(standing: Standing, why: str) -> Failure:
    scope = standing.limit.scope
    return Failure(
        CODE,
        f"This month's budget of {_WORDS.get(scope, scope.partition(':')[2])} is {dollars(standing.limit.micro_usd)}; "
        f"{dollars(standing.spent)} are spent, and {why}.",
        "It begins anew on the first of the month (UTC); the owner can raise it on the Usage page.",
        permanent=True,
    )
