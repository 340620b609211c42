"""The vocabulary of faults: what it knows, what it refuses, how faults are used up."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from rehearsal.engine_log import BOOT_FAILURES
from rehearsal.faults import Fault, Faults, UnknownFault, parse

README = Path(__file__).parents[2] / "rehearsal" / "README.md"


def test_the_example_of_the_readme_is_valid_and_uses_every_word() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.S)
    kinds = {fault.kind for fault in parse(example)}
    assert kinds == {"refuse", "kill", "spot", "throttle", "fail", "lose_reply", "boot_failure", "never_boots"}


def test_the_readme_names_every_boot_failure() -> None:
    assert [word for word in BOOT_FAILURES if f"`{word}`" not in README.read_text()] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- explode: now", "exactly one of refuse, kill"),
        ("- {refuse: capacity, kill: engine}", "exactly one of"),
        ("- refuse: everything", "known are capacity, quota"),
        ("- spot: rebate", "known are interruption, rebalance"),
        ("- {kill: engine, when: ready}", "unknown when; known are after_s, kill, model, phase, times"),
        ("- {kill: engine, phase: asleep}", "known are instance, driver"),
        ("- throttle: dynamodb", "write service:Operation"),
        ("- {refuse: quota, times: often}", "whole number above zero, or always"),
        ("refuse: capacity", "must be a list"),
        ("- [", "not YAML"),
    ],
)
def test_an_unknown_word_is_an_error_that_says_what_is_known(text: str, says: str) -> None:
    with pytest.raises(UnknownFault, match=re.escape(says)):
        parse(text)


def test_a_fault_is_used_up() -> None:
    faults = Faults()
    faults.add(Fault("refuse", "capacity", times=2))
    (fault,) = faults.pending("refuse")
    assert [faults.use(fault) for _ in range(3)] == [True, True, False]
    assert faults.pending("refuse") == []


def test_a_fault_that_always_strikes_is_never_used_up() -> None:
    faults = Faults()
    faults.add(Fault.parse({"refuse": "quota", "times": "always"}))
    (fault,) = faults.pending("refuse")
    assert all(faults.use(fault) for _ in range(5))


def test_a_fault_concerns_its_model_and_zone_only() -> None:
    fault = Fault.parse({"refuse": "capacity", "model": "a", "zone": "us-east-1a"})
    assert fault.concerns(model="a", zone="us-east-1a")
    assert not fault.concerns(model="a", zone="us-east-1b")
    assert not fault.concerns(model="b", zone="us-east-1a")


def test_a_changed_file_is_read_again_and_an_odd_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("- refuse: capacity\n")
    os.utime(path, (1, 1))
    faults = Faults(path)
    assert faults.refresh()
    assert not faults.refresh()
    path.write_text("- refuse: nonsense\n")
    with pytest.raises(UnknownFault):
        faults.refresh()
    assert [fault.what for fault in faults.pending("refuse")] == ["capacity"]
    path.write_text("- refuse: quota\n- kill: agent\n")
    assert faults.refresh()
    assert [fault.what for fault in faults.pending("refuse")] == ["quota"]
