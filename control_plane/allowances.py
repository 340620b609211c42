"""What the settings say of money."""

from __future__ import annotations

from control_plane.budget import Allowance
from control_plane.rates import Sizes
from control_plane.settings import Settings


def allowance(settings: Settings) -> Allowance:
    """What a month may cost where the owner set nothing."""
    return Allowance(
        settings.monthly_budget_usd,
        settings.user_monthly_budget_usd,
        settings.speculative_budget_usd,
        settings.budget_hard_cap_percent,
    )


def sizes(settings: Settings) -> Sizes:
    """What the price of a machine depends on."""
    return Sizes(settings.root_volume_gb, settings.task_cpu, settings.task_memory, settings.task_architecture)
