"""The agent's package holds what a node needs, and its name says what it holds."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from gpu_node.package import HOME, MODULES, PROGRAMS, SCRIPTS, build, pack
from tests.gpu_node.machine import contents


def unpacked(folder: Path) -> Path:
    for name, content in contents(build()).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return folder


def test_the_same_files_make_the_same_package_wherever_and_whenever(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(HOME, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for number, path in enumerate(copy.rglob("*.py")):
        os.utime(path, (number, number))
        path.chmod(0o600)
    assert build(copy) == build()


def test_another_content_has_another_key() -> None:
    one, other = pack({"a": b"1"}), pack({"a": b"2"})
    assert one.key != other.key
    assert one.key == f"agent/{hashlib.sha256(one.content).hexdigest()}.tar.gz"


def test_the_order_of_the_files_does_not_matter() -> None:
    assert pack({"a": b"1", "b": b"2"}) == pack({"b": b"2", "a": b"1"})


def test_the_agent_starts_from_the_package_alone(tmp_path: Path) -> None:
    home = unpacked(tmp_path)
    probe = "import gpu_node.__main__ as m, sys; print(m.__file__); print('pulumi' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], cwd=home, env={}, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [str(home / "gpu_node/__main__.py"), "False"], done.stderr


def test_the_engines_program_starts_from_the_package_alone(tmp_path: Path) -> None:
    home = unpacked(tmp_path)
    probe = "import gpu_node.provision as m, sys; print(m.__file__); print('pulumi' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], cwd=home, env={}, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [str(home / "gpu_node/provision.py"), "False"], done.stderr


def test_every_module_is_the_nodes_but_what_makes_its_package_and_its_user_data() -> None:
    there = {path.stem for path in HOME.glob("*.py")}
    assert there - set(MODULES) == PROGRAMS == {"package", "user_data"}
    assert {f"gpu_node/{name}.py" for name in MODULES} <= set(contents(build()))


def test_a_node_can_install_all_that_its_scripts_name() -> None:
    names = set(contents(build()))
    found = set()
    for script in SCRIPTS:
        text = (HOME / script).read_text()
        named = {word.strip('"') for line in text.splitlines() for word in line.split() if word.startswith('"$home/')}
        files = {word.removeprefix("$home/") for word in named if word.endswith((".txt", ".service", ".sh"))}
        found |= files
        assert files <= names
    assert {"requirements.txt", "requirements-engine.txt"} <= found


def test_the_engine_is_the_version_whose_log_lines_the_agent_reads() -> None:
    assert "vllm==0.32.0 \\" in (HOME / "requirements-engine.txt").read_text().splitlines()


def test_the_engine_can_stream_from_s3() -> None:
    listed = {line.partition("==")[0] for line in (HOME / "requirements-engine.txt").read_text().splitlines()}
    assert {"runai-model-streamer", "runai-model-streamer-s3"} <= listed
