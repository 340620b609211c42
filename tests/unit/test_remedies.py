"""What is told to do about a failure."""

from __future__ import annotations

import pytest

from control_plane.model import Model
from control_plane.remedies import _KNOWN, remedies
from gpu_node.phases import DRIVER_MISSING, overdue
from gpu_node.protocol import Failure, Phase, PhaseRecord
from rehearsal.engine_log import BOOT_FAILURES

MODEL = Model.parse({"name": "m", "repository": "org/m", "instanceTypes": ["g6.xlarge"]})


@pytest.mark.parametrize("code", _KNOWN)
def test_every_way_out_is_a_sentence_with_something_to_do(code: str) -> None:
    told = remedies(Failure(code, "It failed.", "Fix it."), MODEL)
    assert told
    assert all(remedy.text.endswith((".", ":", "stood.")) for remedy in told)
    assert any(remedy.command or remedy.url for remedy in told)


def test_what_is_gated_is_opened_on_its_own_page() -> None:
    first, *_ = remedies(Failure("gated_model", "Gated."), MODEL)
    assert first.url == "https://huggingface.co/org/m"


def test_of_what_nothing_special_is_known_the_failure_itself_speaks() -> None:
    (told,) = remedies(Failure("node_lost", "Gone.", "Ask again."), MODEL)
    assert (told.text, told.command, told.url) == ("Ask again.", None, None)
    assert remedies(Failure("x", "y"), MODEL) == []


def test_every_failure_that_a_boot_can_have_is_known_by_its_code() -> None:
    late = overdue([PhaseRecord(Phase.LOAD, 0.0)], 9.0, limits={Phase.LOAD: 1.0}, whole_s=99)
    assert late is not None
    assert {*BOOT_FAILURES, late.code, DRIVER_MISSING.code} - _KNOWN.keys() == {"engine_crashed"}
