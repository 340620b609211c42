"""The command as an operator runs it, in the project's folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rehearsal.program import HOME
from rehearsal.server_thread import ServerThread
from rehearsal.stack import models_of_stack
from tests.doctor.conftest import Deployed, checked_out, variables

LIMIT_S = 60


def doctor(*words: str, environment: dict[str, str], folder: Path = HOME) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DIOGENES_", "HF_"))}
    return subprocess.run(
        [sys.executable, "-m", "control_plane", "doctor", "--directory", str(folder), *words],
        env={**kept, "HF_HUB_OFFLINE": "1", "no_proxy": "127.0.0.1", **environment},
        cwd=HOME,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    told = json.loads(done.stdout)
    assert all(list(finding) == ["check", "status", "message", "fix"] for finding in told)
    assert {finding["status"] for finding in told} <= {"ok", "warning", "failure"}
    return {finding["check"]: finding for finding in told}


def test_a_deployed_stack_is_examined_to_the_end(deployed: Deployed) -> None:
    deployed.account.quotas.update({"L-DB2E81BA": 256, "L-3819A6DF": 0, "L-B99A9384": 1000})
    done = doctor("--json", environment=variables(deployed), folder=deployed.folder)
    found = findings(done)
    for check in ("credentials", "configuration", "region", "quota.on-demand", "deployment", "control-plane"):
        assert found[check]["status"] == "ok", found[check]
    assert found["orphans"]["status"] == "ok"
    assert found["model:Qwen/Qwen3-14B-AWQ"]["message"] == "cold"
    # The rehearsal has no CDN, and that is what makes the command fail.
    assert {name for name, finding in found.items() if finding["status"] == "failure"} == {"site"}
    assert (done.returncode, done.stderr) == (1, "")


def test_the_stack_as_published_wants_an_owner_first(deployed: Deployed) -> None:
    found = findings(doctor("--json", environment=variables(deployed)))["configuration"]
    assert (found["status"], "you@example.com, a placeholder" in found["message"]) == ("failure", True)
    assert found["fix"] == "pulumi config set --path 'allowedEmails[0]' <your address>"


def test_it_only_reads(deployed: Deployed) -> None:
    before = deployed.account.calls()
    doctor(environment=variables(deployed), folder=deployed.folder)
    asked = {name for name, count in deployed.account.calls().items() if count > before.get(name, 0)}
    assert len(asked) > 10
    reading = ("Describe", "Get", "Scan")
    assert [name for name in asked if not name.partition(":")[2].startswith(reading)] == []


@pytest.fixture
def hub() -> Iterator[str]:
    """Hugging Face's hub, where DeepSeek is gated to all but one token, and everything else is open."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            gated = "deepseek" in self.path and self.headers["Authorization"] != "Bearer hf_mine"
            body = b"{}"
            self.send_response(401 if gated else 200)
            self.send_header("Content-Length", str(len(body)))
            if gated:
                self.send_header("X-Error-Code", "GatedRepo")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    with ServerThread(server):
        yield f"http://127.0.0.1:{server.server_port}"


GATED = "hugging-face:casperhansen/deepseek-r1-distill-llama-70b-awq"


def test_a_gated_repository_is_a_failure_until_a_token_opens_it(deployed: Deployed, hub: str) -> None:
    environment = {**variables(deployed), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub}
    without = findings(doctor("--json", environment=environment, folder=deployed.folder))
    assert without[GATED]["status"] == "failure"
    assert "pulumi config set --secret hfToken" in without[GATED]["fix"]
    assert without["hugging-face:Qwen/Qwen3-14B-AWQ"]["status"] == "ok"
    printed = doctor("--json", environment={**environment, "HF_TOKEN": "hf_mine"}, folder=deployed.folder)
    assert findings(printed)[GATED]["status"] == "ok"
    assert "hf_mine" not in printed.stdout


def test_a_hub_that_is_down_is_told_of_each_model_by_its_own_name(deployed: Deployed) -> None:
    environment = {**variables(deployed), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    names = [model["name"] for model in models_of_stack()]
    printed = doctor("--json", environment=environment, folder=deployed.folder)
    told = [finding for finding in json.loads(printed.stdout) if "could not be reached" in finding["message"]]
    lines = [f"{finding['check']}: {finding['message']}" for finding in told]
    assert [[name for name in names if name in line] for line in lines] == [[name] for name in names * 2]
    assert {finding["status"] for finding in told} == {"warning"}


def test_a_stack_that_is_not_deployed_yet_passes(deployed: Deployed, tmp_path: Path) -> None:
    deployed.account.quotas.update({"L-DB2E81BA": 256, "L-3819A6DF": 0, "L-B99A9384": 1000})
    done = doctor("--stack", "dev", environment=variables(deployed), folder=checked_out(tmp_path, "dev"))
    assert "diogenes-dev is not deployed yet" in done.stdout
    assert "-> pulumi up --stack dev" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_a_machine_without_credentials_fails_and_says_what_to_do(deployed: Deployed) -> None:
    environment = {name: value for name, value in variables(deployed).items() if "KEY" not in name}
    done = doctor("--json", environment=environment, folder=deployed.folder)
    found = findings(done)
    assert (found["credentials"]["status"], done.returncode) == ("failure", 1)
    assert found["configuration"]["status"] == "ok"
    assert done.stderr == ""


def test_an_aws_that_cannot_be_reached_is_a_warning(deployed: Deployed) -> None:
    done = doctor(
        "--json", environment={**variables(deployed), "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, folder=deployed.folder
    )
    assert (findings(done)["credentials"]["status"], done.returncode, done.stderr) == ("warning", 0, "")


@pytest.mark.parametrize("words", [("--stack", "nobody"), ("--stack", "nobody", "--json")])
def test_a_stack_that_is_not_there_fails_without_a_traceback(words: tuple[str, ...]) -> None:
    done = doctor(*words, environment={})
    assert "Pulumi.nobody.yaml cannot be read" in done.stdout
    assert (done.returncode, done.stderr) == (1, "")


def test_settings_of_the_control_plane_are_no_concern_of_its(deployed: Deployed) -> None:
    assert doctor("--stack", "nobody", environment={"DIOGENES_PORT": "many"}).returncode == 1
