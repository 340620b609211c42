"""What is installed is pinned and hashed, from wherever it comes, and no more than its part needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTS = sorted(ROOT.glob("*/requirements*.txt"))
PINNED = re.compile(r"[a-z0-9._-]+(\[[a-z0-9,]+\])?==\S+ \\")


@pytest.mark.parametrize("path", LISTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_package_is_pinned_and_hashed_and_none_names_where_it_comes_from(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    packages = [line for line in lines if not line.startswith(" ")]
    assert packages
    assert [line for line in packages if not PINNED.fullmatch(line)] == []
    assert all(line.strip().startswith("--hash=sha256:") for line in lines if line.startswith(" "))
    assert "://" not in path.read_text()


def test_the_image_of_the_control_plane_holds_no_tools() -> None:
    names = _names("control_plane/requirements.txt")
    assert not names & {"pulumi", "moto", "pytest", "mypy", "ruff", "hypothesis", "openai", "psutil"}


def test_the_agent_needs_next_to_nothing() -> None:
    assert len(_names("gpu_node/requirements.txt")) <= 8


def _names(path: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+)", (ROOT / path).read_text(), re.MULTILINE))
