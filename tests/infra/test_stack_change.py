"""What a change of the configuration touches: what else there is stays as it was."""

from __future__ import annotations

from tests.infra.whole import GENERAL, Ran, configured, ran, stack_config, text


def test_a_models_idle_timeout_changes_its_row_only() -> None:
    config = stack_config().values["diogenes:models"]
    changed = [{**model, "idleTimeout": 900} if model["name"] == GENERAL else model for model in config]
    assert _differences(ran(), ran(models=changed)) == {"~ TableItem data-model-qwen-qwen3-14b-awq"}


def test_another_model_changes_nothing_of_the_others() -> None:
    assert all(change.startswith("+") for change in _differences(configured("one model"), configured("as published")))


def test_another_machine_image_changes_launch_templates_only() -> None:
    changes = _differences(configured("as published"), configured("a pinned image"))
    assert {change.split()[:2][1] for change in changes} == {"LaunchTemplate"}
    assert all(change.startswith("~") for change in changes)


def test_one_more_zone_moves_no_subnet_and_touches_neither_load_balancer_nor_service() -> None:
    changes = _differences(ran(zones=3), ran(zones=4))
    assert {change for change in changes if change.startswith("+")} == {
        "+ Subnet network-us-east-1d",
        "+ RouteTableAssociation network-us-east-1d",
    }
    assert {change.split()[1] for change in changes if change.startswith("~")} == {"Group"}


def _differences(before: Ran, after: Ran) -> set[str]:
    def told(found: Ran) -> dict[str, str]:
        return {
            f"{each.type.rpartition(':')[2]} {each.name}": text(each.inputs)
            for each in found.registrations
            if not each.type.startswith("diogenes:")
        }

    old, new = told(before), told(after)
    return (
        {f"- {key}" for key in old.keys() - new.keys()}
        | {f"+ {key}" for key in new.keys() - old.keys()}
        | {f"~ {key}" for key in old.keys() & new.keys() if old[key] != new[key]}
    )
