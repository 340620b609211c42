"""What a month may cost, as the stack's configuration says it. Pure."""

from __future__ import annotations

from control_plane.configuration import Values

NAMES = ("monthlyBudgetUsd", "userMonthlyBudgetUsd", "speculativeBudgetUsd", "budgetHardCapPercent")

MONTHLY_USD = 100
"""AWS Budgets alerts at it as well, for the whole account."""

SPECULATIVE_USD = 5
"""Of starts that nobody had asked anything yet."""

HARD_CAP_PERCENT = 120
"""Of a budget, from which on what runs is ended."""


def read(values: Values) -> dict[str, int]:
    """Of a deployment: the members that are about budgets. A person's is the deployment's unless it is set."""
    dollars, unit = range(1, 1_000_001), "US dollars"
    monthly = values.integer("monthlyBudgetUsd", dollars, default=MONTHLY_USD, unit=unit)
    person = values.integer("userMonthlyBudgetUsd", range(1_000_001), default=0, unit=unit)
    return {
        "monthly_budget_usd": monthly,
        "user_monthly_budget_usd": person or monthly,
        "speculative_budget_usd": values.integer("speculativeBudgetUsd", dollars, default=SPECULATIVE_USD, unit=unit),
        "budget_hard_cap_percent": values.integer(
            "budgetHardCapPercent", range(100, 1001), default=HARD_CAP_PERCENT, unit="per cent"
        ),
    }
