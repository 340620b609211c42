"""What the settings say of patience and of money."""

from __future__ import annotations

from control_plane.budget import Allowance
from control_plane.policy import Policy
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
    return Sizes(
        root_volume_gb=settings.root_volume_gb,
        root_volume_mib_s=settings.root_volume_mib_s,
        cpu=settings.task_cpu,
        memory=settings.task_memory,
        architecture=settings.task_architecture,
    )


def policy(settings: Settings) -> Policy:
    """How patient to be."""
    return Policy(
        lease_s=settings.lease_s,
        drain_timeout_s=settings.drain_timeout_s,
        boot_limit_s=settings.boot_limit_s,
        claim_limit_s=settings.claim_limit_s,
        silent_node_s=settings.silent_node_s,
        cancel_grace_s=settings.cancel_grace_s,
        failure_memory_s=settings.failure_memory_s,
        launch_limit_s=settings.launch_limit_s,
        scale_out_s=settings.scale_out_s,
        scale_in_s=settings.scale_in_s,
        sizes=sizes(settings),
    )
