"""A container is its daemon's, not the agent's child: with a stand-in for Docker, it is gone when its engine is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from gpu_node.__main__ import _end_elsewhere
from gpu_node.engine import Engine
from gpu_node.installation import ContainerEngine, container_command, end_container
from tests.gpu_node.process import is_dead, wait_for

# `run` starts what goes on by itself, in a session of its own as a daemon's does, and stays as a client that is deaf to
# SIGTERM; `rm` ends it.
DOCKER = """#!/bin/bash
echo "docker $*" >> "$STAGE/calls"
case "$1" in
  run)
    setsid sleep 300 > /dev/null 2>&1 &
    echo $! > "$STAGE/container"
    trap "" TERM
    while :; do sleep 0.05; done ;;
  rm) if [ -e "$STAGE/container" ]; then kill -9 "$(cat "$STAGE/container")"; rm "$STAGE/container"; fi ;;
  pull) exit 0 ;;
esac
"""


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    docker = tmp_path / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    monkeypatch.setenv("STAGE", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    yield tmp_path
    end_container()


def calls(stage: Path) -> list[str]:
    return (stage / "calls").read_text().splitlines()


def running(stage: Path) -> tuple[Engine, psutil.Process]:
    """An engine in a container, as the agent has it, and what runs in the container."""
    words = container_command("vllm:1", ["serve", "x"], {}, home=stage, user=(1, 1))
    environ: Mapping[str, str] = {"DIOGENES_ENGINE_KIND": "container"}
    engine = Engine(words, os.environ, clock=time.time, host="127.77.77.77", end_elsewhere=_end_elsewhere(environ))
    wait_for(lambda: (stage / "container").exists() and (stage / "container").read_text().strip())
    return engine, psutil.Process(int((stage / "container").read_text()))


def test_a_container_does_not_outlive_an_engine_that_has_to_be_killed(stage: Path) -> None:
    engine, inside = running(stage)
    assert not is_dead(inside)
    engine.stop(0.2)
    wait_for(lambda: is_dead(inside))
    assert calls(stage)[-1] == "docker rm --force diogenes-engine"


def test_nor_a_client_that_died_before_it(stage: Path) -> None:
    engine, inside = running(stage)
    os.kill(engine.pid, 9)
    wait_for(lambda: engine.exit_code() is not None)
    assert not is_dead(inside)
    engine.stop(0.2)
    wait_for(lambda: is_dead(inside))


def test_one_that_is_left_over_is_ended_before_the_next(stage: Path) -> None:
    assert ContainerEngine("vllm:1", stage, write=lambda text: None).install() == 0
    assert calls(stage) == ["docker rm --force diogenes-engine", "docker pull --quiet vllm:1"]


@pytest.mark.parametrize("environ", [{}, {"DIOGENES_ENGINE_KIND": "install"}])
def test_nobody_asks_docker_for_an_engine_that_is_installed(stage: Path, environ: Mapping[str, str]) -> None:
    program = [sys.executable, "-c", "import time; time.sleep(60)"]
    Engine(program, os.environ, clock=time.time, host="127.77.77.77", end_elsewhere=_end_elsewhere(environ)).stop(5)
    assert not (stage / "calls").exists()


def test_a_docker_that_is_missing_or_hangs_keeps_no_node_up(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(*_: object, **given: object) -> None:
        assert given["timeout"]
        raise subprocess.TimeoutExpired("docker", 30)

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "run", hangs)
        end_container()
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(stage / "nowhere"))
        end_container()
    assert not (stage / "calls").exists()
