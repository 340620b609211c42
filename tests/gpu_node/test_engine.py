"""The engine's command line and environment, and real processes in its place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from gpu_node.engine import (
    Engine,
    EngineSpec,
    InvalidSpec,
    Load,
    Proof,
    command,
    environment,
    killed_for_memory,
    parse_load,
)
from gpu_node.protocol import LOG_TAIL_LINES
from rehearsal.server_thread import ServerThread

# -- what is started -----------------------------------------------------------------------------------------------


def test_the_command_line_holds_the_model_its_address_and_its_arguments() -> None:
    spec = EngineSpec.from_row(
        {"name": "coder", "repository": "org/coder", "revision": "v2", "vllmArgs": "--max-model-len 65536 -tp 4"}, {}
    )
    line = command(spec, "vllm", "10.0.0.7")
    assert line[:3] == ["vllm", "serve", "org/coder"]
    assert " ".join(line[3:]) == (
        "--served-model-name coder --host 10.0.0.7 --port 8000 --enable-prompt-tokens-details"
        " --shutdown-timeout 30"
        " --revision v2 --max-model-len 65536 -tp 4"
    )


def test_the_repository_is_the_name_unless_it_is_given() -> None:
    assert EngineSpec.from_row({"name": "org/model"}, {}) == EngineSpec("org/model", "org/model")


def test_the_override_wins_over_the_configuration() -> None:
    spec = EngineSpec.from_row({"name": "m", "vllmArgs": "--a"}, {"vllmArgs": "--b 'two words'"})
    assert spec.args == ("--b", "two words")


def test_a_program_may_have_arguments_of_its_own() -> None:
    assert command(EngineSpec("m", "m"), "python -m 'my engine'", "h")[:4] == ["python", "-m", "my engine", "serve"]


@pytest.mark.parametrize("config", [{}, {"name": 3}, {"name": "m", "vllmArgs": "'open"}, {"name": "m", "revision": 2}])
def test_a_configuration_that_makes_no_command_line_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(InvalidSpec):
        EngineSpec.from_row(config, {})


def test_the_engine_inherits_no_credentials() -> None:
    inherited = {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "0",
        "REHEARSAL_TOKENS": "5",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "x",
        "DIOGENES_NODE_MODEL": "x",
        "GITHUB_TOKEN": "x",
        "OPENAI_API_KEY": "x",
        "DB_PASSWORD": "x",
    }
    given = environment(inherited, ready_timeout_s=1200.0)
    assert {name for name in given if name in inherited} == {"PATH", "CUDA_VISIBLE_DEVICES", "REHEARSAL_TOKENS"}
    assert given["VLLM_NO_USAGE_STATS"] == given["DO_NOT_TRACK"] == "1"
    assert given["VLLM_ENGINE_READY_TIMEOUT_S"] == "1200"


def test_the_engine_gets_the_hugging_face_token_only_where_there_is_one() -> None:
    assert environment({"HF_TOKEN": "hf_x"}, ready_timeout_s=1)["HF_TOKEN"] == "hf_x"
    assert "HF_TOKEN" not in environment({}, ready_timeout_s=1)


# -- its answers ---------------------------------------------------------------------------------------------------

METRICS = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 9.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 1.234e+06
vllm:generation_tokens_created{engine="0",model_name="m"} 1.7e+09
vllm:prompt_tokens_total{engine="0",model_name="m"} 17.0
vllm:prompt_tokens_by_source_total{engine="0",source="x"} 3.0
"""


def test_the_load_is_summed_over_engines() -> None:
    load = parse_load(METRICS)
    assert load is not None
    assert (load.running, load.waiting) == (4, 2)


def test_tokens_are_told_by_counter() -> None:
    load = parse_load(METRICS)
    assert load is not None
    assert {name.partition("{")[0]: count for name, count in load.tokens.items()} == {
        "generation_tokens_total": 1_234_000,
        "prompt_tokens_total": 17,
    }


def test_an_engine_that_counts_no_tokens_tells_its_load_all_the_same() -> None:
    gauges = "".join(line + "\n" for line in METRICS.splitlines() if "tokens" not in line)
    assert parse_load(gauges) == Load(running=4, waiting=2)


def test_metrics_without_the_gauges_tell_no_load() -> None:
    assert parse_load("") is None
    assert parse_load("vllm:num_requests_running 1.0\n") is None


# -- the process ---------------------------------------------------------------------------------------------------


def wait_for(condition: Callable[[], object], *, within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.02)


def is_dead(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # nobody has collected it yet
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Engine]]:
    engines: list[Engine] = []

    def begin(program: str) -> Engine:
        script = tmp_path / f"engine{len(engines)}.py"
        script.write_text(program)
        environ = environment(os.environ, ready_timeout_s=60)
        # An address where nobody listens.
        engine = Engine([sys.executable, str(script)], environ, clock=time.time, host="127.77.77.77")
        engines.append(engine)
        return engine

    yield begin
    for engine in engines:
        engine.stop(0)


def test_a_missing_program_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Engine([str(tmp_path / "none")], os.environ, clock=time.time, host="127.0.0.1")


def test_once_the_end_is_known_the_output_is_complete(start: Callable[[str], Engine]) -> None:
    engine = start("import sys\nfor i in range(3): print('out', i)\nprint('err', file=sys.stderr)\nsys.exit(3)")
    wait_for(lambda: engine.exit_code() is not None)
    assert engine.exit_code() == 3
    assert sorted(line.text for line in engine.output.take()) == ["err", "out 0", "out 1", "out 2"]


def test_what_the_kernel_killed_since_its_start_is_told(tmp_path: Path) -> None:
    counters = tmp_path / "vmstat"
    counters.write_text("oom_kill_other 9\noom_kill 2\nallocstall 1\n")
    program = [sys.executable, "-c", "pass"]
    engine = Engine(
        program, os.environ, clock=time.time, host="127.0.0.1", killed_for_memory=lambda: killed_for_memory(counters)
    )
    assert not engine.starved  # before it was there
    counters.write_text("oom_kill 3\n")
    assert engine.starved
    engine.stop(5)
    assert (killed_for_memory(tmp_path / "none"), killed_for_memory() >= 0) == (0, True)


def test_only_the_last_lines_are_kept(start: Callable[[str], Engine]) -> None:
    engine = start("for i in range(500): print('line', i)")
    wait_for(lambda: engine.exit_code() is not None)
    engine.output.take()
    assert (len(engine.output.tail), engine.output.tail[-1]) == (LOG_TAIL_LINES, "line 499")


def test_every_state_of_a_progress_bar_is_read_but_only_the_last_is_kept(start: Callable[[str], Engine]) -> None:
    engine = start(r"import sys; sys.stdout.write('\rbar 1\rbar 2\rbar 3\nnext\r\nrest')")
    wait_for(lambda: engine.exit_code() is not None)
    assert [line.text for line in engine.output.take()] == ["bar 1", "bar 2", "bar 3", "next", "rest"]
    assert list(engine.output.tail) == ["bar 3", "next", "rest"]


def test_a_secret_in_the_output_is_gone_before_anyone_sees_it(start: Callable[[str], Engine]) -> None:
    engine = start("print('token hf_' + 'a' * 30)")
    wait_for(lambda: engine.exit_code() is not None)
    assert [line.text for line in engine.output.take()] == ["token [secret]"]


@pytest.mark.parametrize(
    ("answers", "proof"),
    [
        ({"/v1/completions": 200}, Proof.WORKS),
        ({"/v1/completions": 404, "/v1/embeddings": 200}, Proof.WORKS),
        ({"/v1/completions": 500}, Proof.FAILS),
        ({"/v1/completions": 404, "/v1/embeddings": 500}, Proof.FAILS),
        ({"/v1/completions": 503}, Proof.NONE),  # its queue is full
        ({"/v1/completions": 400}, Proof.NONE),
        ({}, Proof.NONE),  # it says nothing
    ],
)
def test_what_a_probe_proves(
    start: Callable[[str], Engine], monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, int], proof: Proof
) -> None:
    engine = start("import time; time.sleep(600)")
    with _server(answers) as server:
        monkeypatch.setattr("gpu_node.engine.ENGINE_PORT", server.server_port)
        monkeypatch.setattr(engine, "_host", "127.0.0.1")
        probe = engine.probe(60 if answers else 0.2)
        wait_for(lambda: probe.answer() is not None, within_s=60)
    assert probe.answer() is proof


@contextmanager
def _server(answers: Mapping[str, int]) -> Iterator[ThreadingHTTPServer]:
    """Says nothing where it has no answer."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if self.path not in answers:
                over.wait(60)
                return
            self.send_response(answers[self.path])
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with ServerThread(server):
        try:
            yield server
        finally:
            over.set()


def test_stopping_asks_first(start: Callable[[str], Engine]) -> None:
    engine = start(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)))\n"
        "print('up', flush=True)\ntime.sleep(600)"
    )
    wait_for(lambda: [line.text for line in engine.output.take()] == ["up"])
    engine.stop(10)
    assert engine.exit_code() == 0
    assert [line.text for line in engine.output.take()] == ["bye"]


STUBBORN = (
    "import signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print(child.pid, flush=True)\ntime.sleep(600)"
)


def test_stopping_ends_what_does_not_listen_with_all_its_children(start: Callable[[str], Engine]) -> None:
    engine = start(STUBBORN)
    wait_for(lambda: engine.output.take() or engine.output.tail)
    child = psutil.Process(int(engine.output.tail[0]))
    engine.stop(0.1)
    assert engine.exit_code() == -signal.SIGKILL
    wait_for(lambda: is_dead(child))


def test_stopping_twice_is_stopping_once(start: Callable[[str], Engine]) -> None:
    engine = start("import time; time.sleep(600)")
    engine.stop(5)
    engine.stop(5)
    assert engine.exit_code() == -signal.SIGTERM


PARENT = """\
import sys, time
from gpu_node.engine import Engine
program = "import time; print('up', flush=True); time.sleep(600)"
engine = Engine([sys.executable, "-c", program], {"PATH": ""}, clock=time.time, host="127.0.0.1")
while not engine.output.take():
    time.sleep(0.02)
print(engine.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel ends it only on Linux")
def test_an_engine_does_not_outlive_an_agent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    with parent.stdout:
        engine = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    wait_for(lambda: is_dead(engine))


def test_an_engine_that_does_not_listen_is_neither_healthy_nor_loaded(start: Callable[[str], Engine]) -> None:
    engine = start("import time; time.sleep(600)")
    assert not engine.healthy()
    assert engine.load() is None
