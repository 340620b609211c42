"""What becomes of a question to the Hugging Face hub, asked of a server on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from control_plane.geometry import Geometry, Unread
from control_plane.hub import ENDPOINT, Access, Hub, geometry_reader
from rehearsal.server_thread import ServerThread

CONFIG = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}
INDEX = {"metadata": {"total_size": 16060522496}, "weight_map": {}}


@dataclass
class Answer:
    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class FakeHub(ThreadingHTTPServer):
    """Answers by path, 404 for any other; remembers who asked for what."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str | None]] = []  # path, authorization
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def put(self, repository: str, config: object = CONFIG, index: object = None, revision: str = "main") -> None:
        self.answers[f"/{repository}/resolve/{revision}/config.json"] = Answer(body=config)
        if index is not None:
            self.answers[f"/{repository}/resolve/{revision}/model.safetensors.index.json"] = Answer(body=index)


class Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        answer = self.server.answers.get(self.path, Answer(404, headers={"X-Error-Code": "EntryNotFound"}))
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


def serving() -> Iterator[FakeHub]:
    server = FakeHub()
    with ServerThread(server):
        yield server


@pytest.fixture
def server() -> Iterator[FakeHub]:
    yield from serving()


@pytest.fixture
def storage() -> Iterator[FakeHub]:
    """Another host, to which the hub points."""
    yield from serving()


def test_a_repository_tells_its_configuration_and_the_size_of_its_weights(server: FakeHub) -> None:
    server.put("org/model", index=INDEX)
    reading = Hub(server.url).read("org/model")
    assert (reading.access, reading.config, reading.weights_bytes) == (Access.READ, CONFIG, 16060522496)


def test_a_small_model_has_no_index(server: FakeHub) -> None:
    server.put("org/model")
    reading = Hub(server.url).read("org/model")
    assert (reading.access, reading.weights_bytes) == (Access.READ, None)


def test_the_configured_revision_is_read(server: FakeHub) -> None:
    server.put("org/model", revision="v2")
    assert Hub(server.url).read("org/model", "v2").access is Access.READ
    assert Hub(server.url).read("org/model").access is Access.MISSING


def test_access_is_one_question_and_a_lack_of_one_file_is_none_of_a_repository(server: FakeHub) -> None:
    server.put("org/model")
    assert Hub(server.url, "hf_mine").access("org/model").access is Access.READ
    assert server.asked == [("/org/model/resolve/main/config.json", "Bearer hf_mine")]
    assert Hub(server.url).access("org/without-config").access is Access.READ
    for status, code, access in ((401, "GatedRepo", Access.GATED), (401, "RepoNotFound", Access.MISSING)):
        server.answers["/org/model/resolve/v2/config.json"] = Answer(status, headers={"X-Error-Code": code})
        assert Hub(server.url).access("org/model", "v2").access is access
    assert Hub(server.url, offline=True).access("org/model").access is Access.UNREACHABLE


@pytest.mark.parametrize(
    ("answer", "access", "told"),
    [
        (Answer(401, headers={"X-Error-Code": "GatedRepo"}), Access.GATED, "accept its terms"),
        (Answer(403, headers={"X-Error-Code": "GatedRepo"}), Access.GATED, "accept its terms"),
        (Answer(401, headers={"X-Error-Code": "RepoNotFound"}), Access.MISSING, "no such repository"),
        (Answer(404, headers={"X-Error-Code": "RevisionNotFound"}), Access.MISSING, "no such repository"),
        (Answer(404), Access.MISSING, "no such repository"),
        (Answer(429), Access.UNREACHABLE, "answered 429"),
        (Answer(500), Access.UNREACHABLE, "answered 500"),
    ],
)
def test_a_refusal_is_told_for_what_it_is(server: FakeHub, answer: Answer, access: Access, told: str) -> None:
    server.answers["/org/model/resolve/main/config.json"] = answer
    reading = Hub(server.url).read("org/model")
    assert reading.access is access
    assert told in reading.told


def test_a_hub_that_is_not_there_is_unreachable() -> None:
    with FakeHub() as gone:
        url = gone.url
    reading = Hub(url).read("org/model")
    assert reading.access is Access.UNREACHABLE
    assert "could not be reached" in reading.told


def test_a_hub_that_does_not_answer_is_given_up(server: FakeHub) -> None:
    with FakeHub() as silent:  # it listens, and nobody serves
        reading = Hub(silent.url, timeout_s=0.1).read("org/model")
    assert reading.access is Access.UNREACHABLE


@pytest.mark.parametrize("body", [b"<html>", b'["a", "list"]'])
def test_a_config_that_is_none_is_of_no_known_family(server: FakeHub, body: bytes) -> None:
    server.put("org/model", config=body, index=b"[]")
    reading = Hub(server.url).read("org/model")
    assert (reading.access, reading.config, reading.weights_bytes) == (Access.READ, {}, None)


def test_an_odd_index_is_as_good_as_none(server: FakeHub) -> None:
    odd: tuple[object, ...] = ({"metadata": []}, {"metadata": {"total_size": "16 GB"}})
    for index in odd:
        server.put("org/model", index=index)
        assert Hub(server.url).read("org/model").weights_bytes is None


def test_the_token_goes_to_the_hub_and_not_to_where_it_points(server: FakeHub, storage: FakeHub) -> None:
    server.answers["/org/model/resolve/main/config.json"] = Answer(307, headers={"Location": "/cached/config.json"})
    server.answers["/cached/config.json"] = Answer(302, headers={"Location": f"{storage.url}/blob"})
    storage.answers["/blob"] = Answer(body=CONFIG)
    reading = Hub(server.url, token="hf_secret").read("org/model")
    assert reading.config == CONFIG
    assert server.asked[:2] == [
        ("/org/model/resolve/main/config.json", "Bearer hf_secret"),
        ("/cached/config.json", "Bearer hf_secret"),
    ]
    assert storage.asked == [("/blob", None)]


def test_no_token_is_sent_where_there_is_none(server: FakeHub) -> None:
    server.put("org/model")
    Hub(server.url).read("org/model")
    assert {authorization for _, authorization in server.asked} == {None}


def test_a_hub_in_clear_that_is_not_on_this_machine_is_not_asked() -> None:
    reading = Hub("http://hub.example.org", token="hf_secret").read("org/model")
    assert (reading.access, "must be an https URL" in reading.told) == (Access.UNREACHABLE, True)


def test_the_environment_says_which_hub_and_with_what_token() -> None:
    assert Hub.from_env({}) == Hub(ENDPOINT)
    told = {"HF_ENDPOINT": "https://hub.example.org/", "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "1"}
    assert Hub.from_env(told) == Hub("https://hub.example.org", token="hf_secret", offline=True)
    assert Hub.from_env({"HF_HUB_OFFLINE": "0", "HF_TOKEN": "", "HF_ENDPOINT": ""}) == Hub(ENDPOINT)
    assert "hf_secret" not in repr(Hub.from_env(told))


def test_offline_nothing_is_asked(server: FakeHub) -> None:
    read = geometry_reader({"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "1"})
    found = read("org/model", None)
    assert isinstance(found, Unread)
    assert not found.asked
    assert server.asked == []


def test_a_repository_that_can_be_read_gives_its_geometry(server: FakeHub) -> None:
    server.put("org/model", index=INDEX)
    found = geometry_reader({"HF_ENDPOINT": server.url})("org/model", None)
    assert isinstance(found, Geometry)
    assert (found.layers, found.kv_heads, found.hidden_size) == (32, 8, 4096)


def test_a_family_that_is_not_known_is_named(server: FakeHub) -> None:
    server.put("org/model", config={"model_type": "gpt_oss"})
    found = geometry_reader({"HF_ENDPOINT": server.url})("org/model", None)
    assert isinstance(found, Unread)
    assert "gpt_oss" in found.reason


def test_a_missing_repository_does_not_stop_the_others(server: FakeHub) -> None:
    server.put("org/model")
    read = geometry_reader({"HF_ENDPOINT": server.url})
    missing = read("org/other", None)
    assert isinstance(missing, Unread)
    assert missing.asked
    assert isinstance(read("org/model", None), Geometry)


def test_a_hub_that_is_down_is_asked_once(server: FakeHub) -> None:
    server.answers["/org/model/resolve/main/config.json"] = Answer(503)
    read = geometry_reader({"HF_ENDPOINT": server.url})
    first = read("org/model", None)
    assert isinstance(first, Unread)
    assert first.asked
    assert first.reason == "the hub answered 503"  # of no model, since it is told of all
    assert read("org/other", None) == first
    assert len(server.asked) == 1
