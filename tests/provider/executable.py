"""Where the AWS provider's executable lies. We bring none: who has one names it, or has it somewhere on the disk."""

from __future__ import annotations

import functools
import os
from pathlib import Path

VARIABLE = "DIOGENES_AWS_PROVIDER"
MISSING = f"no terraform-provider-aws executable on this disk: set {VARIABLE} to one"

_PREFIX = "terraform-provider-aws_v"
_SKIPPED = frozenset({"/proc", "/sys", "/dev", "/run"})
_MAX_FOLDERS = 400_000  # a few seconds


@functools.cache
def find() -> Path | None:
    """The executable that DIOGENES_AWS_PROVIDER names, else the first that a bounded search of the disk finds.

    Raises FileNotFoundError when the variable names something that cannot be executed.
    """
    if named := os.environ.get(VARIABLE):
        if not _runs(named):
            raise FileNotFoundError(f"{VARIABLE} names no executable: {named}")
        return Path(named)
    return _search()


def _search() -> Path | None:
    for seen, (folder, below, files) in enumerate(os.walk("/")):
        if seen > _MAX_FOLDERS:
            break
        # Never among installed Python packages, which are most of a disk's folders.
        below[:] = sorted(
            name for name in below if os.path.join(folder, name) not in _SKIPPED and name != "site-packages"
        )
        for name in files:
            if name.startswith(_PREFIX) and _runs(os.path.join(folder, name)):
                return Path(folder, name)
    return None


def _runs(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)
