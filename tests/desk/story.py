"""A desk as a story sees it: stock clients that always come to an end, and a look into the account.

Every story in a module has a model of its own, so that one desk serves them all; that nothing was leaked is checked
once, when the desk closes, and names the groups, which are called after the stories.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import boto3
import httpx
import openai
import psutil
from openai.types.chat import ChatCompletionMessageParam

from control_plane.model import Model, slug
from control_plane.schema import INSTANCES, group_name
from rehearsal.account import REGION
from rehearsal.desk import Desk, FrontOptions, Options
from rehearsal.groups import Member
from rehearsal.stack import NAMESPACE as NAMESPACE

BOUND_S = 60.0
"""Stories are over in a tenth of it; those of a slower engine have a bound of their own."""

QUIET_LIMIT_S = 45.0
POLL_S = 0.05

QUICK = {
    "DIOGENES_TICK_S": "0.5",
    "DIOGENES_CLOUD_WATCH_S": "1",
    "DIOGENES_SILENT_HOLD_S": "1",
    "DIOGENES_KEEPALIVE_S": "1",
    "DIOGENES_USAGE_FLUSH_S": "0.5",
    "DIOGENES_NODE_HEARTBEAT_S": "1",
}


Seen = Callable[[], str]


@dataclass(frozen=True)
class Answer:
    """How one request ended: with all of its text, or with an error and the text before it."""

    text: str = ""
    error: str = ""  # the code; the class of the client's exception where it has none
    status: int = 0  # of an error that had one of its own
    node: str = ""  # who answered
    message: str = field(default="", compare=False)  # of the error

    @property
    def whole(self) -> bool:
        return bool(self.text) and not self.error


class NoEnd(AssertionError):
    """Somebody asked and got neither the whole of an answer nor an error within the bound."""


@dataclass
class Tale:
    """What was told, and when; any thread may tell."""

    lines: list[tuple[float, str]] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic

    def tell(self, line: str) -> None:
        self.lines.append((self.clock(), line))

    def since(self, first: int) -> Sequence[str]:
        """From this line on, each with the seconds from the first of them."""
        lines = self.lines[first:]
        return [f"{at - lines[0][0]:6.1f} s  {line}" for at, line in lines]


@dataclass
class Story:
    """The desk, and what it told."""

    desk: Desk
    tale: Tale = field(default_factory=Tale)
    bound_s: float = BOUND_S  # what any client gets to come to an end

    @property
    def told(self) -> Sequence[str]:
        return [line for _, line in self.tale.lines]

    # -- clients

    async def ask(
        self,
        model: str,
        prompt: str = "Hello",
        *,
        stream: bool = False,
        begun: asyncio.Event | None = None,
        key: str = "",
        hops: list[int] | None = None,
    ) -> Answer:
        """What the stock asynchronous client makes of it. ``begun`` is set by the first token; ``hops`` gets the
        status of every reply on the way, those that the client follows or tries again after as well: 0 where none
        came. Raises NoEnd.
        """
        bound = asyncio.timeout(self.bound_s)
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": prompt}]
        text = ""
        try:
            async with bound, self.client(key, hops) as client:
                if not stream:
                    raw = await client.chat.completions.with_raw_response.create(model=model, messages=messages)
                    content = raw.parse().choices[0].message.content
                    return Answer(content or "", node=raw.headers.get("x-diogenes-node", ""))
                async for chunk in await client.chat.completions.create(model=model, messages=messages, stream=True):
                    text += _content(chunk)
                    if text and begun:
                        begun.set()
        except openai.APIError as error:
            return replace(_failed(error), text=text)
        except TimeoutError as error:
            if not bound.expired():
                raise
            kind = "a stream" if stream else "an answer"
            raise NoEnd(f"{kind} of {model} did not end in {self.bound_s:.0f} s: {text!r} came of it") from error
        return Answer(text)

    async def ask_sync(self, model: str, prompt: str = "Hello", *, stream: bool = False) -> Answer:
        """The same by the stock synchronous client, in a thread."""
        asking = asyncio.to_thread(self._ask_sync, model, prompt, stream=stream)
        try:
            return await asyncio.wait_for(asking, self.bound_s)
        except TimeoutError as error:
            raise NoEnd(f"an answer of {model} did not end in {self.bound_s:.0f} s") from error

    def client(self, key: str = "", hops: list[int] | None = None) -> openai.AsyncOpenAI:
        """With default settings. ``hops`` as in ``ask``."""
        http = None if hops is None else openai.DefaultAsyncHttpxClient(event_hooks=_noting(hops))
        return openai.AsyncOpenAI(base_url=self.desk.base_url, api_key=key or self.desk.api_key, http_client=http)

    def http(self, key: str = "") -> httpx.AsyncClient:
        """For everything that is not OpenAI's API, and to see an answer's bytes."""
        headers = {"authorization": f"Bearer {key or self.desk.api_key}"}
        return httpx.AsyncClient(base_url=self.desk.web_url, headers=headers, timeout=self.bound_s)

    async def scale(self, model: str, desired: int) -> None:
        async with self.http() as http:
            (await http.post("api/cluster/scale", json={"model": model, "desired": desired})).raise_for_status()

    async def status(self, model: str) -> dict[str, Any]:
        async with self.http() as http:
            answer: dict[str, Any] = (await http.get(f"api/models/{model}")).raise_for_status().json()
            return answer

    def _ask_sync(self, model: str, prompt: str, *, stream: bool) -> Answer:
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": prompt}]
        with openai.OpenAI(base_url=self.desk.base_url, api_key=self.desk.api_key) as client:
            try:
                if stream:
                    chunks = client.chat.completions.create(model=model, messages=messages, stream=True)
                    return Answer("".join(_content(chunk) for chunk in chunks))
                whole = client.chat.completions.create(model=model, messages=messages)
                return Answer(whole.choices[0].message.content or "")
            except openai.APIError as error:
                return _failed(error)

    # -- the account

    def alive(self, model: str) -> Sequence[Member]:
        alive = self.desk.instances()
        return [member for group in self.groups(model) for member in alive.get(group, ())]

    def groups(self, model: str) -> Sequence[str]:
        """The names of the model's groups, one a market."""
        (config,) = [config for config in self.desk.options.models or () if config["name"] == model]
        return [group_of(model, market) for market in Model.parse(config).market.ladder]

    def launched(self, model: str) -> Sequence[str]:
        """Every instance that the model ever had; asking takes as long as the desk takes to see the last one."""
        return [line.split()[0] for line in self.told if " launched: " in line and line.endswith(f" for {model}")]

    def row(self, instance_id: str) -> Mapping[str, Any]:
        key = {INSTANCES.hash_key: {"S": instance_id}}
        return self.desk.account.row(INSTANCES.full_name(NAMESPACE), key) or {}

    async def node(self, model: str, status: str = "ready") -> str:
        """The id of the model's only node, once its row has this status."""

        def found() -> bool:
            return any(self.row(member.id).get("status") == status for member in self.alive(model))

        await until(found, f"{model} is {status}", self.bound_s)
        (instance_id,) = (m.id for m in self.alive(model) if self.row(m.id).get("status") == status)
        return instance_id

    async def loading(self, model: str) -> str:
        """The id of the model's only node, once its engine's process is at work on its start."""

        def found() -> bool:
            return any(_last_phase(self.row(member.id)) in _LOADING for member in self.alive(model))

        await until(found, f"{model} loads")
        (member,) = self.alive(model)
        return member.id

    async def generating(self, instance_id: str) -> None:
        """Returns once the node's engine is at work on a request."""
        url = f"http://{self.row(instance_id)['ip']}:8000/metrics"
        await until(lambda: _running(url) > 0, f"{instance_id} generates")

    async def gone(self, model: str) -> None:
        """Returns once the model has no instance, and its group wants none."""

        def wanted() -> int:
            return sum(map(self.desk.desired, self.groups(model)))

        await until(lambda: not self.alive(model) and not wanted(), f"{model} is gone")

    # -- the end

    def settle(self) -> None:
        """Every instance left by itself, no group wants one, and no process of a node lives."""
        limit = time.monotonic() + QUIET_LIMIT_S
        groups = [group for config in self.desk.options.models or () for group in self.groups(config["name"])]
        while left := [*self.desk.instances(), *(group for group in groups if self.desk.desired(group))]:
            assert time.monotonic() < limit, f"leaked: {left}\n" + "\n".join(self.tale.since(-40))
            time.sleep(POLL_S)
        while agents := [process.pid for process in _below() if "gpu_node" in _command(process)]:
            assert time.monotonic() < limit, f"processes outlived their instances: {agents}"
            time.sleep(POLL_S)


@contextmanager
def opened(
    *models: str | Mapping[str, Any],
    idle_seconds: int | None = 2,
    load_seconds: float = 0.5,
    environment: Mapping[str, str] | None = None,
    settles: bool = True,
    front: FrontOptions | None = None,
    engine: str = "builtin",
    bound_s: float = BOUND_S,
    denied: Container[str] = (),
) -> Iterator[Story]:
    """A desk with these models; whatever a story did, in the end nothing may be left.

    With a ``front`` it begins asleep, and with none the control plane never sleeps. ``denied`` are the actions that a
    story took from a role.
    """
    tale = Tale()
    before = {process.pid for process in _below()}
    options = Options(
        boot_seconds=0.3,
        load_seconds=load_seconds,
        idle_seconds=idle_seconds,
        models=[{"instanceTypes": ["g5.xlarge"], **_config(model)} for model in models],
        environment={**QUICK, **(environment or {})},
        front=front,
        engine=engine,
    )
    with Desk(options, tell=tale.tell) as desk:
        story = Story(desk, tale, bound_s)
        yield story
        if settles:
            story.settle()
        lacking = [str(denial) for denial in desk.denied() if denial.action not in denied]
        assert lacking == [], "a role lacks a permission"
    assert {process.pid for process in _below()} <= before, "a process outlived the desk"


@contextmanager
def owner(story: Story, service: Literal["dynamodb", "ecs"]) -> Iterator[Any]:
    """A client of AWS as the account's owner has it."""
    session = boto3.Session(aws_access_key_id="owner", aws_secret_access_key="owner", region_name=REGION)
    with closing(session.client(service, endpoint_url=story.desk.aws_url)) as client:
        yield client


async def until(what: Callable[[], bool], name: str, limit_s: float = BOUND_S, *, seen: Seen = lambda: "") -> None:
    """Wait for something that other processes do; fails by name, and by what is ``seen`` in its place."""
    limit = time.monotonic() + limit_s
    while not await asyncio.to_thread(what):
        assert time.monotonic() < limit, f"it did not happen in {limit_s:.0f} s: {name}. {seen()}".rstrip(". ")
        await asyncio.sleep(POLL_S)


def group_of(model: str, market: str = "on-demand") -> str:
    return group_name(NAMESPACE, slug(model), market)


_LOADING = ("weights", "load", "compile", "warmup")


def _last_phase(row: Mapping[str, Any]) -> str:
    phases = row.get("phases") or [{"phase": ""}]
    return str(phases[-1]["phase"])


def _running(url: str) -> float:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http, on this machine
        text = answer.read().decode()
    lines = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def _config(model: str | Mapping[str, Any]) -> Mapping[str, Any]:
    return {"name": model} if isinstance(model, str) else model


def _content(chunk: Any) -> str:
    return "".join(choice.delta.content or "" for choice in chunk.choices)


def _failed(error: openai.APIError) -> Answer:
    status = error.status_code if isinstance(error, openai.APIStatusError) else 0
    return Answer(error=error.code or type(error).__name__, status=status, message=error.message)


def _noting(hops: list[int]) -> dict[str, list[Callable[[Any], Any]]]:
    """Hooks of a client: one more for every request, and its status as soon as there is one."""

    async def asked(_request: httpx.Request) -> None:
        hops.append(0)

    async def answered(response: httpx.Response) -> None:
        hops[-1] = response.status_code

    return {"request": [asked], "response": [answered]}


def _below() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if _command(process)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
