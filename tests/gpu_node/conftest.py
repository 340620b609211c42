"""What surrounds a node, on loopback: an emulated AWS, and a metadata service as on every EC2 instance."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rehearsal.server_thread import ServerThread
from tests.gpu_node.files import Files
from tests.gpu_node.process import StartNode, starting


@pytest.fixture(scope="session")
def _aws_process() -> Iterator[int]:
    # A process of its own: inside this one, the emulator's state would be shared with every other test that uses it.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    line = [sys.executable, "-m", "tests.gpu_node.emulator", str(port)]
    # The rehearsal's account, where another test made one in this process, has left switches of its own behind.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOTO_")}
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while _reset(port) != http.client.OK:
            assert time.monotonic() < end, "the emulated AWS does not start"
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def aws_endpoint(_aws_process: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where an emulated, empty AWS is."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    _reset(_aws_process)
    return f"http://127.0.0.1:{_aws_process}"


@pytest.fixture
def files(aws_endpoint: str) -> Files:
    """An empty bucket there."""
    return Files(aws_endpoint)


def _reset(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/moto-api/reset")
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def start_node(
    aws_endpoint: str, metadata_service: Callable[[dict[str, str]], AbstractContextManager[str]], tmp_path: Path
) -> Iterator[StartNode]:
    """Starts the real agent as a process."""
    with starting(metadata_service, aws_endpoint, tmp_path) as start:
        yield start


@pytest.fixture(name="metadata_service")
def _metadata_service() -> Callable[[dict[str, str]], AbstractContextManager[str]]:
    """Starts one that knows these answers, and gives its address."""
    return metadata_service


@contextmanager
def metadata_service(answers: dict[str, str]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            wanted = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
            self._answer(200 if wanted else 400, "the-token")

        def do_GET(self) -> None:
            if self.headers["X-aws-ec2-metadata-token"] != "the-token":
                self._answer(401, "")
                return
            name = self.path.removeprefix("/latest/").removeprefix("meta-data/")
            self._answer(200 if name in answers else 404, answers.get(name, ""))

        def _answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with ServerThread(server):
        yield f"http://127.0.0.1:{server.server_port}"
