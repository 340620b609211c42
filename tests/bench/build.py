"""The two C programs, compiled when their sources are newer: a stand-in engine and a load generator."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent / "src"
CACHE = Path(__file__).parents[2] / ".cache" / "bench"


class CannotBuild(RuntimeError):
    """No compiler, or it refused; the message says which."""


@dataclass(frozen=True)
class Programs:
    engine: Path
    load: Path


def build() -> Programs:
    """Both programs, up to date. Raises CannotBuild."""
    return Programs(engine=_compile("engine"), load=_compile("load"))


def _compile(name: str) -> Path:
    program = CACHE / "bin" / name
    newest = max(source.stat().st_mtime for source in SOURCES.iterdir())
    if program.exists() and program.stat().st_mtime > newest:
        return program
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise CannotBuild("the benchmark needs a C compiler (gcc)")
    program.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", str(program), str(SOURCES / f"{name}.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBuild(done.stderr)
    return program
