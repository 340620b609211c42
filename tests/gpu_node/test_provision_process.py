"""The engine's program as a process of its own: it becomes the engine, and ends with all that it started."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from gpu_node.engine_settings import EngineKind, EngineSettings
from gpu_node.package import HOME
from gpu_node.weights import Source
from tests.gpu_node.account import REGION
from tests.gpu_node.fake_hub import COMMIT, FakeHub, serving
from tests.gpu_node.files import NAME, Files
from tests.gpu_node.machine import Machine
from tests.gpu_node.process import wait_for

SERVE = ("serve", "org/tiny", "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", "1")
IN_S3 = EngineSettings(weights=Source.S3, bucket=NAME, node="i-1", region="eu-west-1")

ENGINE = f"""#!{sys.executable}
import http.server, os, sys
print("engine", *sys.argv[1:], flush=True)
print("kept", *sorted(name for name in os.environ if name.startswith(("AWS_", "DIOGENES_", "HF_TOKEN"))), flush=True)
class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
if "--port" in sys.argv:
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Healthy).serve_forever()
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving(FakeHub(files={"config.json": b"{}", "model.safetensors": bytes(50_000)})) as served:
        yield served


def installed(home: Path) -> None:
    """An engine as install.sh leaves it."""
    program = home / "vllm/bin/vllm"
    program.parent.mkdir(parents=True)
    program.write_text(ENGINE)
    program.chmod(0o755)
    lock = (HOME / "requirements-engine.txt").read_bytes()
    (home / "vllm/.installed").write_text(hashlib.sha256(lock).hexdigest())


def started(command: Sequence[str], environment: Mapping[str, str], folder: Path = HOME) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env={**environment, "PYTHONPATH": str(HOME.parent)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_the_program_becomes_the_engine_and_mirrors_beside_it(
    hub: FakeHub, files: Files, tmp_path: Path, free_port: int
) -> None:
    installed(tmp_path)
    hub.token = "hf_mine"
    environment = {
        **{name: os.environ[name] for name in ("PATH", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
        **IN_S3.to_env(),
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": files.endpoint,
        "HOME": str(tmp_path),
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": "hf_mine",
        "DIOGENES_NODE_MODEL": "tiny",
    }
    words = ["serve", "org/tiny", "--host", "127.0.0.1", "--port", str(free_port)]
    with started([sys.executable, "-m", "gpu_node.provision", *words], environment) as process:
        wait_for(lambda: f"weights/org--tiny/{COMMIT}.manifest" in files.names(), within_s=60)
        pid = process.pid
        os.killpg(pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    lines = output.splitlines()
    assert f"engine {' '.join(words)} --revision {COMMIT}" in lines
    assert "kept HF_TOKEN" in lines
    assert "hf_mine" not in output


def test_a_failure_ends_the_program_before_there_is_an_engine(hub: FakeHub, tmp_path: Path) -> None:
    installed(tmp_path)
    hub.missing = True
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_ENDPOINT": hub.endpoint}
    with started([sys.executable, "-m", "gpu_node.provision", *SERVE], environment) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "diogenes: model_not_found_on_hub: the hub has no such repository" in output
    assert "engine serve" not in output


def test_who_ends_the_engine_ends_its_installation(hub: FakeHub, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "requirements-engine.txt").write_text("vllm==9\n")
    (package / "install.sh").write_text("#!/bin/bash\necho installs $$\nexec sleep 60\n")
    (package / "install.sh").chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_ENDPOINT": hub.endpoint}
    with started([sys.executable, "-m", "gpu_node.provision", *SERVE], environment, package) as process:
        assert process.stdout
        words = [process.stdout.readline() for _ in range(2)]
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)
    assert words[0] == "diogenes: installing the engine\n"
    installer = int(words[1].split()[1])
    status = Path(f"/proc/{installer}/stat")
    wait_for(lambda: not status.exists() or "Z" in status.read_text(), within_s=60)


def test_from_user_data_to_the_engine(hub: FakeHub, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    outcome = machine.boot(engine=EngineSettings(kind=EngineKind.CONTAINER, image="vllm:1", bucket=""))
    assert outcome.status == 0, outcome.output
    docker = tmp_path / "bin/docker"
    docker.write_text('#!/bin/bash\necho "docker $*"\n')
    docker.chmod(0o755)
    packages = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    program = str(tmp_path / "opt/diogenes/engine.sh")
    run = machine.run([program, *SERVE], HOME=str(tmp_path), PYTHONPATH=packages, HF_ENDPOINT=hub.endpoint)
    assert run.status == 0, run.output
    lines = run.output.replace("\r", "\n").splitlines()
    assert lines[-1].startswith("docker run --rm --init")
    assert lines[-1].endswith(f"vllm:1 {' '.join(SERVE)} --revision {COMMIT}")
    assert "docker pull --quiet vllm:1" in lines
