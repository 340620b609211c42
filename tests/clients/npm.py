"""Is a package of npm there, in the version that its folder pins?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path


def package_missing(home: Path, package: str) -> str:
    """Why what needs it cannot run here; empty where it can."""
    if not shutil.which("node"):
        return f"no node is installed: {package} did NOT run"
    pinned = json.loads((home / "package.json").read_text())["dependencies"][package]
    try:
        found = json.loads((home / "node_modules" / package / "package.json").read_text())["version"]
    except FileNotFoundError:
        found = "nowhere"
    if found != pinned:
        return f"{package} {pinned} is not installed (`npm ci` in {home}): it did NOT run; there is: {found}"
    return ""
