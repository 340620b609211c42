"""The deployment that is simulated: real settings on a shorter scale, so that a schedule is minutes and not hours."""

from __future__ import annotations

from dataclasses import replace

from control_plane.api_keys import PREFIX, hash_key, mint
from control_plane.ports import KeyRow
from control_plane.settings import Settings

SETTINGS = Settings(
    tick_s=12.0,
    watch_s=4.0,
    cloud_watch_s=15.0,
    cancel_grace_s=40.0,
    lease_s=120.0,
    drain_timeout_s=80.0,
    boot_limit_s=200.0,
    claim_limit_s=100.0,
    silent_node_s=45.0,
    failure_memory_s=30.0,
    launch_limit_s=40.0,
    scale_out_s=15.0,
    scale_in_s=45.0,
    control_plane_idle_timeout_s=45.0,
    propagation_s=30.0,
    max_holds=3,
    max_wait_s=240.0,
    usage_flush_s=1e6,
    key_cache_s=1e6,
    stop_timeout_s=50.0,
    deregistration_delay_s=60.0,
)
SPEND_FRESH_S = 30.0
SELDOM = 4  # what nothing is limited by is read as much less often
PROPAGATION_S = 25.0  # what a turn of the listener takes at most, but in few schedules
SLOWLY_S = 40.0  # the setting for it in those
LONG_DRAIN_S = 100.0
IDLE_S = {"org/small": 45.0, "org/large": 30.0}
MAX_INSTANCES = {"org/small": 1, "org/large": 2}
BOUND_S = 300.0  # the blueprint's, beyond idle timeout and drain
KILL_S = 60.0  # from SIGTERM until ECS kills
JANITOR_S = 120.0
FUNCTION_LIMIT_S = 60.0

KEY = mint(b"k" * 32)
KEY_ROW = KeyRow(hash_key(KEY), "ann@example.com", "laptop", 0.0, PREFIX)


def deployed(*, budget_usd: float, limited: bool, propagation_s: float, deregisters: bool) -> Settings:
    """The deployment with that budget, which is read rarely where nobody is limited by it, and a listener whose turn
    takes so long at most. A drain outlasts a deregistration, where there is one."""
    return replace(
        SETTINGS,
        monthly_budget_usd=budget_usd,
        spend_fresh_s=SPEND_FRESH_S if limited else SPEND_FRESH_S * SELDOM,
        propagation_s=SLOWLY_S if propagation_s > PROPAGATION_S else SETTINGS.propagation_s,
        drain_timeout_s=LONG_DRAIN_S if deregisters else SETTINGS.drain_timeout_s,
    )
