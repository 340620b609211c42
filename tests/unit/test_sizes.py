"""Rules without a check rot: a file stays below 400 lines, a function below 60."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

FOLDERS = ("control_plane", "gpu_node", "rehearsal", "tests", "web")
SOURCES = sorted(
    path
    for path in [ROOT / "__main__.py", *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
    if "node_modules" not in path.parts
)


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_FILE_LINES, f"{lines} lines: split it by noun"
    long = {name: size for name, size in _functions(path) if size > MAX_FUNCTION_LINES}
    assert not long, "split by stage"
