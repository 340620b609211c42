"""The engine's program on a node installs vLLM once, and is vLLM from then on."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_node.package import HOME
from gpu_node.phases import ENGINE_NOT_INSTALLED, explain
from tests.gpu_node.machine import Machine, Outcome

# `python3 -m venv --clear FOLDER`, where uv "installs" what a test said.
MAKE_ENVIRONMENT = """
[ "$2" = venv ] || exit 3
for last; do :; done
rm -rf "$last"; mkdir -p "$last/bin"
printf '#!/bin/bash\\nexit 0\\n' > "$last/bin/python"
printf '#!/bin/bash\\n. "$ANSWERS/install"\\n' > "$last/bin/uv"
chmod +x "$last/bin/python" "$last/bin/uv"
"""
INSTALLS = """
for needed in "$@"; do :; done
[ -s "$needed" ] || exit 4
printf '#!/bin/bash\\necho vllm "$@"\\n' > "$(dirname "$0")/vllm"
chmod +x "$(dirname "$0")/vllm"
"""


class Engine:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        python = machine.root / "bin/python3"
        head = python.read_text().splitlines()[:2]
        python.write_text("\n".join([*head, MAKE_ENVIRONMENT]))
        self.installing(INSTALLS)

    def installing(self, script: str) -> None:
        (self.machine.answers / "install").write_text(script)

    def start(self, *arguments: str) -> Outcome:
        return self.machine.run([str(HOME / "engine.sh"), *arguments], HOME=str(self.machine.root))


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Machine(tmp_path))


def test_the_first_start_installs_and_goes_on_as_the_engine(engine: Engine) -> None:
    outcome = engine.start("serve", "org/tiny", "--name", "two words")
    assert outcome.status == 0, outcome.output
    assert outcome.output.splitlines() == [
        "diogenes: installing the engine",
        "vllm serve org/tiny --name two words",
    ]


def test_the_second_start_installs_nothing(engine: Engine) -> None:
    engine.start("serve")
    outcome = engine.start("serve")
    assert outcome.output == "vllm serve\n"
    assert len(outcome.called("python3 -m venv")) == 1


def test_an_installation_that_fails_is_explained_to_who_waits(engine: Engine) -> None:
    engine.installing("echo 'error: Request failed after 3 retries' >&2; exit 2")
    outcome = engine.start("serve")
    assert outcome.status == 2
    assert explain(outcome.status, outcome.output.splitlines()) == ENGINE_NOT_INSTALLED


def test_a_disk_that_is_too_small_for_the_engine_is_named(engine: Engine) -> None:
    engine.installing("echo 'No space left on device (os error 28)' >&2; exit 2")
    outcome = engine.start("serve")
    assert explain(outcome.status, outcome.output.splitlines()).code == "disk_full"


def test_an_engine_that_fails_by_itself_was_installed(engine: Engine) -> None:
    engine.installing(INSTALLS.replace('echo vllm "$@"', "echo RuntimeError; exit 1"))
    outcome = engine.start("serve")
    assert explain(outcome.status, outcome.output.splitlines()).code == "engine_crashed"


def test_an_installation_that_broke_off_begins_anew(engine: Engine) -> None:
    engine.installing("exit 2")
    engine.start("serve")
    engine.installing(INSTALLS)
    assert engine.start("serve").output.endswith("vllm serve\n")
