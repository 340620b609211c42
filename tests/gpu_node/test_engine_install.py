"""The engine is installed once, whole, from the list that the package has."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gpu_node.installation import STAMP, InstalledEngine
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


def installed(machine: Machine, package: Path) -> InstalledEngine:
    """As the engine's program sees what is on the machine."""
    return InstalledEngine(machine.root, package, write=lambda text: None)


class Engine:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.folder = machine.root / "vllm"
        python = machine.root / "bin/python3"
        head = python.read_text().splitlines()[:2]
        python.write_text("\n".join([*head, MAKE_ENVIRONMENT]))
        self.installing(INSTALLS)

    def installing(self, script: str) -> None:
        (self.machine.answers / "install").write_text(script)

    def install(self) -> Outcome:
        return self.machine.run([str(HOME / "install.sh"), str(self.folder)])

    @property
    def is_installed(self) -> bool:
        """To who would start it: nothing is left to be done."""
        return installed(self.machine, HOME).install() == 0 if self._is_stamped else False

    @property
    def _is_stamped(self) -> bool:
        return (self.folder / STAMP).exists()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Machine(tmp_path))


def test_what_was_installed_is_taken_for_installed(engine: Engine) -> None:
    assert not engine.is_installed
    outcome = engine.install()
    assert outcome.status == 0, outcome.output
    lock = (HOME / "requirements-engine.txt").read_bytes()
    assert (engine.folder / STAMP).read_text().strip() == hashlib.sha256(lock).hexdigest()
    assert engine.is_installed
    found = installed(engine.machine, HOME)
    assert found.program(["serve"], {}) == [str(engine.folder / "bin/vllm"), "serve"]
    assert found.version == "vllm 0.32.0"


def test_an_engine_of_another_list_is_installed_anew(engine: Engine, tmp_path: Path) -> None:
    engine.install()
    package = tmp_path / "package"
    package.mkdir()
    (package / "requirements-engine.txt").write_text("vllm==0.33.0\n")
    (package / "install.sh").write_text("#!/bin/bash\nexit 6\n")
    (package / "install.sh").chmod(0o755)
    newer = installed(engine.machine, package)
    assert (newer.version, newer.install()) == ("vllm 0.33.0", 6)


def test_an_installation_that_fails_is_explained_to_who_waits(engine: Engine) -> None:
    engine.installing("echo 'error: Request failed after 3 retries' >&2; exit 2")
    outcome = engine.install()
    assert outcome.status == 2
    lines = [*outcome.output.splitlines(), "diogenes: the engine could not be installed"]
    assert explain(outcome.status, lines).code == ENGINE_NOT_INSTALLED.code
    assert not engine.is_installed


def test_a_disk_that_is_too_small_for_the_engine_is_named(engine: Engine) -> None:
    engine.installing("echo 'No space left on device (os error 28)' >&2; exit 2")
    outcome = engine.install()
    assert explain(outcome.status, outcome.output.splitlines()).code == "disk_full"


def test_an_installation_that_broke_off_begins_anew(engine: Engine) -> None:
    engine.installing("exit 2")
    engine.install()
    assert not engine.is_installed
    engine.installing(INSTALLS)
    assert engine.install().status == 0
    assert engine.is_installed
