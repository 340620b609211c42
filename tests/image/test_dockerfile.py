"""What can be said of the image without building it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.image.building import DOCKERFILE, ROOT, context_files


def test_the_linter_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    assert hadolint, "the tests' requirements install it"
    found = subprocess.run([hadolint, DOCKERFILE], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_image_gets_what_the_control_plane_runs_and_nothing_else() -> None:
    files = set(context_files()) - {DOCKERFILE}  # which every builder is sent, and none copies
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "control_plane").rglob("*.py")}
    runs = {name for name in ours if not name.startswith("control_plane/infra")}
    assert {name for name in files if name.endswith(".py")} - {"gpu_node/__init__.py", "gpu_node/protocol.py"} == runs
    assert "control_plane/overlay/autoscaling/2011-01-01/service-2.sdk-extras.json" in files
    assert "control_plane/requirements.txt" in files


def test_nothing_of_the_operator_or_of_a_node_reaches_the_image() -> None:
    files = context_files()
    assert {name.partition("/")[0] for name in files} == {"control_plane", "gpu_node"}
    assert [name for name in files if name.startswith("gpu_node")] == ["gpu_node/__init__.py", "gpu_node/protocol.py"]
    assert not [name for name in files if "__pycache__" in name or name.startswith("control_plane/infra")]
