"""The stand-in engine as a process, asked by the stock SDKs; and the agent with it, as processes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from gpu_node.engine import Load, parse_load
from gpu_node.phases import PhaseTracker, explain
from gpu_node.protocol import Phase
from rehearsal.engine_log import BOOT_FAILURES
from rehearsal.engine_model import _FAULT_AFTER

PORT = 8000


def wait_for(condition: Callable[[], object], *, within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.01)


@dataclass(frozen=True)
class Running:
    """One engine process."""

    process: subprocess.Popen[str]
    host: str
    log: Path

    @property
    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://{self.host}:{PORT}/v1", api_key="none", max_retries=0)

    @property
    def anthropic(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=f"http://{self.host}:{PORT}", api_key="none", max_retries=0)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.host, PORT, timeout=20)
        text = body if isinstance(body, str) else json.dumps(body)
        connection.request(method, path, None if body is None else text, {"content-type": "application/json"})
        response = connection.getresponse()
        answer = response.read().decode()
        connection.close()
        return response.status, answer

    def refusal(self, path: str, body: object) -> tuple[int, dict[str, Any]]:
        status, text = self.ask("POST", path, body)
        return status, json.loads(text)["error"]

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.ask("GET", "/health") == (200, "")
        except OSError:
            return False

    @property
    def load(self) -> Load | None:
        return parse_load(self.ask("GET", "/metrics")[1])


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def begin(*flags: str, wait: bool = True, program: str = "rehearsal.engine", **environ: str) -> Running:
        # Every engine has the same port, as on nodes; each has an address of its own.
        host = f"127.{os.getpid() % 200 + 30}.{os.getpid() // 200 % 250}.{len(started) + 1}"
        log = tmp_path_factory.mktemp("engine") / "log"
        line = [sys.executable, "-m", program, "serve", "org/tiny", "--served-model-name", "tiny"]
        with log.open("w") as output:
            process = subprocess.Popen(
                [*line, "--host", host, "--port", str(PORT), "--tensor-parallel-size", "4", *flags],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "REHEARSAL_LOAD_SECONDS": "0.1", "REHEARSAL_TOKEN_SECONDS": "0.005", **environ},
                text=True,
                start_new_session=True,
            )
        engine = Running(process, host, log)
        started.append(engine)
        if wait:
            wait_for(engine.ready)
        return engine

    yield begin
    for engine in started:
        # With its group: vLLM's engine process goes on when only its server is killed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(engine.process.pid, signal.SIGKILL)
        engine.process.wait()


@pytest.fixture(scope="module")
def engine(start: Callable[..., Running]) -> Running:
    return start()


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


# -- its dialects --------------------------------------------------------------------------------------------------


def test_a_chat_says_that_nobody_is_there_and_counts_the_words(engine: Running) -> None:
    answer = engine.openai.chat.completions.create(model="tiny", messages=user("one two three"))
    text = answer.choices[0].message.content or ""
    assert text.startswith("This is a stand-in engine, not a model. Your prompt had 3 words.")
    assert answer.usage
    assert answer.usage.completion_tokens == 24
    assert answer.choices[0].finish_reason == "stop"


def test_the_same_question_has_the_same_answer(engine: Running) -> None:
    answers = [engine.openai.chat.completions.create(model="tiny", messages=user("hello")) for _ in range(2)]
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content


def test_a_streamed_chat_holds_the_same_text_and_its_usage_when_asked(engine: Running) -> None:
    stream = engine.openai.chat.completions.create(
        model="tiny", messages=user("hi"), stream=True, stream_options={"include_usage": True}, max_tokens=5
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "This is a stand-in engine,"
    assert chunks[-2].choices[0].finish_reason == "length"
    usage = chunks[-1].usage
    assert usage
    assert (usage.completion_tokens, chunks[-1].choices) == (5, [])


def test_a_streamed_chat_has_no_usage_unless_asked(engine: Running) -> None:
    stream = engine.openai.chat.completions.create(model="tiny", messages=user("hi"), stream=True, max_tokens=2)
    assert all(chunk.usage is None for chunk in stream)


def test_completions_are_spoken_too(engine: Running) -> None:
    whole = engine.openai.completions.create(model="tiny", prompt="hi you", max_tokens=3)
    parts = engine.openai.completions.create(model="tiny", prompt="hi you", max_tokens=3, stream=True)
    assert whole.choices[0].text == "This is a" == "".join(part.choices[0].text for part in parts)


def test_responses_are_spoken_too(engine: Running) -> None:
    whole = engine.openai.responses.create(model="tiny", input="hi you", max_output_tokens=3)
    with engine.openai.responses.stream(model="tiny", input="hi you", max_output_tokens=3) as stream:
        deltas = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert whole.output_text == "This is a" == deltas == final.output_text
    assert final.usage
    assert (final.usage.output_tokens, final.status) == (3, "incomplete")


def test_messages_are_spoken_too(engine: Running) -> None:
    whole = engine.anthropic.messages.create(model="tiny", messages=user("hi you"), max_tokens=3)
    with engine.anthropic.messages.stream(model="tiny", messages=user("hi you"), max_tokens=3) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert whole.content[0].type == "text"
    assert whole.content[0].text == "This is a" == text
    assert (final.stop_reason, final.usage.output_tokens, final.usage.input_tokens) == ("max_tokens", 3, 9)


def test_a_prompt_in_parts_is_read_whole(engine: Running) -> None:
    parts = [{"type": "text", "text": "one two"}, {"type": "text", "text": "three"}]
    answer = engine.openai.chat.completions.create(model="tiny", messages=[{"role": "user", "content": parts}])  # type: ignore[list-item,misc]
    assert "had 3 words" in (answer.choices[0].message.content or "")


def test_embeddings_need_an_engine_that_embeds(engine: Running, start: Callable[..., Running]) -> None:
    with pytest.raises(openai.NotFoundError):
        engine.openai.embeddings.create(model="tiny", input="x")
    embedder = start("--runner", "pooling")
    data = embedder.openai.embeddings.create(model="tiny", input=["x", "y", "x"]).data
    assert data[0].embedding == data[2].embedding != data[1].embedding
    assert embedder.ask("POST", "/v1/chat/completions", {})[0] == 404


# -- its refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/v1/chat/completions", {"model": "nope", "messages": [], "stream": True}, 404, "NotFoundError"),
        ("/v1/messages", {"model": "nope", "messages": [], "max_tokens": 1}, 404, "NotFoundError"),
        ("/v1/chat/completions", {"messages": [], "max_tokens": 99999}, 400, "BadRequestError"),
        ("/v1/chat/completions", {"messages": [], "tools": [{}]}, 400, "BadRequestError"),
        ("/v1/chat/completions", {"messages": "x"}, 400, "Bad Request"),
        ("/v1/chat/completions", {"messages": [], "max_tokens": "many"}, 400, "Bad Request"),
        ("/v1/chat/completions", {}, 400, "Bad Request"),
        ("/v1/chat/completions", "{bad", 400, "Bad Request"),
        ("/v1/completions", [], 400, "Bad Request"),
    ],
)
def test_what_vllm_refuses_is_refused_in_its_words(
    engine: Running, path: str, body: object, status: int, kind: str
) -> None:
    answered, error = engine.refusal(path, body)
    assert (answered, error["type"]) == (status, kind)


def test_an_unknown_model_is_told_what_there_is(engine: Running) -> None:
    _, error = engine.refusal("/v1/chat/completions", {"model": "nope", "messages": []})
    expected = "The model `nope` does not exist. Valid aliases: tiny."
    assert error == {"message": expected, "type": "NotFoundError", "param": "model", "code": 404}


def test_unknown_paths_and_methods_have_fastapis_errors(engine: Running) -> None:
    assert engine.ask("GET", "/nothing") == (404, '{"detail":"Not Found"}')
    assert engine.ask("GET", "/v1/chat/completions") == (405, '{"detail":"Method Not Allowed"}')


@pytest.mark.parametrize("path", ["/tokenize", "/invocations", "/sleep"])
def test_what_must_not_be_reachable_from_outside_is_there(engine: Running, path: str) -> None:
    assert engine.ask("POST", path, {"prompt": "hi", "max_tokens": 1})[0] == 200


def test_models_and_version_are_told(engine: Running) -> None:
    assert [model.id for model in engine.openai.models.list()] == ["tiny"]
    assert engine.ask("GET", "/version") == (200, '{"version":"0.32.0"}')


# -- its faults ----------------------------------------------------------------------------------------------------


def test_an_error_in_the_middle_reaches_the_openai_sdk(engine: Running) -> None:
    stream = engine.openai.chat.completions.create(model="tiny", messages=user("[[error]]"), stream=True)
    with pytest.raises(openai.APIError, match="EngineCore encountered an issue"):
        list(stream)


def test_an_error_in_the_middle_reaches_the_anthropic_sdk(engine: Running) -> None:
    with (
        pytest.raises(anthropic.APIStatusError, match="EngineCore encountered an issue"),
        engine.anthropic.messages.stream(model="tiny", messages=user("[[error]]"), max_tokens=9) as stream,
    ):
        list(stream)


def test_an_error_without_a_stream_is_a_500(engine: Running) -> None:
    with pytest.raises(openai.InternalServerError):
        engine.openai.chat.completions.create(model="tiny", messages=user("[[error]]"))


def test_a_crash_takes_the_process_along(start: Callable[..., Running]) -> None:
    doomed = start()
    stream = doomed.openai.chat.completions.create(model="tiny", messages=user("[[crash]]"), stream=True)
    with pytest.raises(openai.APIConnectionError):
        list(stream)
    assert doomed.process.wait(10) == 1


def test_a_client_that_hangs_up_is_worked_for_no_more(engine: Running) -> None:
    stream = engine.openai.chat.completions.create(model="tiny", messages=user("[[tokens=5000 gap=30]]"), stream=True)
    wait_for(lambda: engine.load == Load(1, 0))
    stream.close()
    wait_for(lambda: engine.load == Load(0, 0), within_s=5)


def test_a_client_that_hangs_up_before_the_answer_is_worked_for_no_more(engine: Running) -> None:
    connection = http.client.HTTPConnection(engine.host, PORT, timeout=20)
    body = json.dumps({"messages": user("[[tokens=5000 gap=30]]")})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    wait_for(lambda: engine.load == Load(1, 0))
    connection.close()
    wait_for(lambda: engine.load == Load(0, 0), within_s=5)


def test_more_requests_than_it_takes_at_once_wait(start: Callable[..., Running]) -> None:
    narrow = start("--max-num-seqs", "1")
    streams = [
        narrow.openai.chat.completions.create(model="tiny", messages=user("[[gap=30]]"), stream=True) for _ in range(3)
    ]
    wait_for(lambda: narrow.load == Load(1, 2))
    for stream in streams:
        stream.close()
    wait_for(lambda: narrow.load == Load(0, 0))


def test_a_termination_cuts_streams_with_an_error_and_ends_soon(start: Callable[..., Running]) -> None:
    ending = start()
    stream = ending.openai.chat.completions.create(model="tiny", messages=user("[[gap=30]]"), stream=True)
    wait_for(lambda: ending.load == Load(1, 0))
    ending.process.send_signal(signal.SIGTERM)
    with pytest.raises(openai.APIError, match="EngineCore encountered an issue"):
        list(stream)
    ending.process.wait(10)


def test_a_termination_with_time_lets_streams_end_and_takes_no_new_request(start: Callable[..., Running]) -> None:
    ending = start("--shutdown-timeout", "30")
    stream = ending.openai.chat.completions.create(
        model="tiny", messages=user("[[tokens=40 gap=0.05]]"), stream=True, stream_options={"include_usage": True}
    )
    wait_for(lambda: ending.load == Load(1, 0))
    ending.process.send_signal(signal.SIGTERM)
    wait_for(lambda: ending.ask("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1})[0] == 500)
    assert ending.ready()  # it says that it is well all the same
    usage = [chunk.usage for chunk in stream if chunk.usage]
    assert usage[-1].completion_tokens == 40
    ending.process.wait(10)


def generated(load: Load) -> float:
    return sum(count for name, count in load.tokens.items() if name.startswith("generation_tokens_total"))


def test_an_engine_that_hangs_answers_its_health_check_and_counts_no_token(start: Callable[..., Running]) -> None:
    stuck = start()
    first = stuck.openai.chat.completions.create(model="tiny", messages=user("[[hang]]"), stream=True)
    wait_for(lambda: stuck.load and generated(stuck.load) == _FAULT_AFTER)
    other = stuck.openai.chat.completions.create(model="tiny", messages=user("Hello"), stream=True)
    wait_for(lambda: stuck.load == Load(2, 0))
    before = stuck.load
    assert stuck.ready()
    assert before
    assert stuck.load
    assert stuck.load.tokens == before.tokens
    third = stuck.openai.chat.completions.create(model="tiny", messages=user("Hello again"), stream=True)
    wait_for(lambda: stuck.load == Load(3, 0))
    assert stuck.load.tokens == before.tokens  # nor what it takes in: a prompt counts when it has been read
    third.close()
    first.close()
    other.close()


# -- its start -----------------------------------------------------------------------------------------------------


def test_the_port_is_closed_while_it_loads_and_a_termination_then_is_heard(start: Callable[..., Running]) -> None:
    loading = start(wait=False, REHEARSAL_LOAD_SECONDS="600")
    wait_for(lambda: "Initializing" in loading.log.read_text() or "STAND-IN" in loading.log.read_text())
    assert not loading.ready()
    loading.process.send_signal(signal.SIGTERM)
    loading.process.wait(10)


def test_its_log_goes_through_every_phase_of_a_start(engine: Running) -> None:
    lines = engine.log.read_text().splitlines()
    tracker = PhaseTracker(0.0)
    for number, line in enumerate(lines):
        tracker.read(line, float(number))
    assert "STAND-IN" in lines[0]
    phases = [record.phase for record in tracker.records]
    assert phases == [Phase.INSTANCE, Phase.WEIGHTS, Phase.LOAD, Phase.COMPILE, Phase.WARMUP]
    loaded = tracker.records[2]
    assert loaded.done_bytes == loaded.total_bytes is not None


@pytest.mark.parametrize("failure", BOOT_FAILURES)
def test_every_failure_of_a_start_is_explained_as_what_it_is(start: Callable[..., Running], failure: str) -> None:
    dying = start(wait=False, REHEARSAL_BOOT_FAILURE=failure)
    code = dying.process.wait(20)
    assert code != 0
    assert explain(code, dying.log.read_text().splitlines()).code == failure
