"""Both front doors, asked in the same way: the task's application over ASGI, the night watch's through Mangum.

Everything runs on a loop that stands still between two requests; time is the deployment's clock.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
from mangum import Mangum

from control_plane.api_keys import Grant
from control_plane.app import ControlPlane
from control_plane.people import Provider
from rehearsal import alb
from tests.memory_people import WEB_URL
from tests.night.deployment import MODEL, Deployment
from tests.people.issuer import PROVIDER, Issuer

CHAT = "/v1/chat/completions"
ASK: Mapping[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
NO_WAIT = {"x_diogenes_wait": "0"}
CSRF = {"x_diogenes_csrf": "1"}
FRONTS = ("task", "night")


@dataclass(frozen=True)
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        """Status and code of a refusal, which has OpenAI's shape and tells nothing of the inside."""
        told = self.json["error"]
        assert set(told) >= {"message", "type", "param", "code"}
        assert "Traceback" not in self.body.decode()
        return self.status, told["code"]

    @property
    def cookies(self) -> list[str]:
        return [value for name, value in self.headers if name.lower() == "set-cookie"]


class Front:
    """One deployment behind one of its front doors."""

    def __init__(self, kind: str, deployment: Deployment, loop: asyncio.AbstractEventLoop) -> None:
        self.deployment = deployment
        self.clock, self.people = deployment.clock, deployment.people
        self.issuer = Issuer(self.people.web, self.clock)
        self.people.entrance.trust(PROVIDER)
        self._loop = loop
        self._kind = kind
        self._plane: ControlPlane | None = None
        self.run(self._seed())
        self.restart()

    def restart(self) -> None:
        """Another process: it knows nothing but what the tables hold."""
        self._app = self.run(self._made())

    def run(self, awaitable: Any) -> Any:
        return self._loop.run_until_complete(awaitable)

    def ask(self, method: str, path: str, *, body: Any = None, **headers: str) -> Reply:
        """``headers`` with _ for -."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        if self._kind == "night":
            return self._through_mangum(method, path, told, content)
        return self.run(self._over_asgi(method, path, told, content))  # type: ignore[no-any-return]

    def chat(self, *, body: Any = ASK, **headers: str) -> Reply:
        """A question that waits for nothing."""
        return self.ask("POST", CHAT, body=body, **NO_WAIT, **headers)

    def key(self, email: str = "ann@example.com", grant: Grant | None = None) -> str:
        """A new key, made by another process."""

        async def made() -> str:
            outside = self.deployment.outside
            plane = ControlPlane(self.deployment.settings, outside, clock=self.clock)
            return (await plane.keys.create(email=email, name="test", grant=grant))[0]

        return str(self.run(made()))

    def write_events(self) -> None:
        """What a task's loops do all the time; the night watch does it with every call."""
        if self._plane:
            self._plane.reception.tell_turned_away()
            self.run(self._plane.log.flush())

    def count_the_month(self) -> None:
        """What a task does twice a minute, limits of keys among it; a night watch, when somebody asks for a model."""
        if self._plane:
            self.run(self._plane.accounts.spending.refresh())

    @property
    def nothing_happened(self) -> bool:
        """Nobody was woken, and nothing wished for."""
        stage = self.deployment.stage
        return not (stage.desired or stage.turns or self.deployment.wishes.rows or self.deployment.launches.rows)

    async def _seed(self) -> None:
        await self.deployment.models.seed(MODEL, {"name": MODEL, "instanceTypes": ["g5.xlarge"]})

    async def _made(self) -> Any:
        if self._kind == "night":
            return Mangum(self.deployment.app(), lifespan="off")
        self._plane = ControlPlane(self.deployment.settings, self.deployment.outside, clock=self.clock)
        return self._plane.app

    async def _over_asgi(self, method: str, path: str, headers: Mapping[str, str], content: bytes) -> Reply:
        transport = httpx.ASGITransport(app=self._app)
        async with httpx.AsyncClient(transport=transport, base_url=WEB_URL) as http:
            sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            reply = await http.request(method, path, headers=sent, content=content)
            return Reply(reply.status_code, reply.headers.multi_items(), reply.content)

    def _through_mangum(self, method: str, path: str, headers: Mapping[str, str], content: bytes) -> Reply:
        told = urlsplit(path)
        event = alb.event(method, told.path, query=told.query, headers=list(headers.items()), body=content)
        reply = alb.reply(self._app(event, None))
        return Reply(reply.status, list(reply.headers), reply.body)


@contextmanager
def opened(kind: str) -> Iterator[Front]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # Mangum runs on the current one
    try:
        yield Front(kind, Deployment(), loop)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@dataclass
class Browser:
    """Keeps cookies, as browsers do, and comes from our own pages."""

    front: Front
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, *, body: Any = None, **headers: str) -> Reply:
        jar = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {"origin": WEB_URL, **({"cookie": jar} if jar else {}), **headers}
        reply = self.front.ask(method, path, body=body, **sent)
        for cookie in reply.cookies:
            name, _, rest = cookie.partition("=")
            value = rest.partition(";")[0]
            if "Max-Age=0" in cookie:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return reply

    def begin(self, provider: Provider = PROVIDER, *, return_to: str = "/models") -> Mapping[str, str]:
        """What the provider is asked."""
        reply = self.ask("POST", "/api/session/start", body={"provider": provider.id, "return_to": return_to})
        assert reply.status == 200, reply.body
        return dict(parse_qsl(urlsplit(reply.json["authorize_url"]).query))

    def come_back(self, asked: Mapping[str, str], **claims: Any) -> Reply:
        """With an ID token for this question."""
        token = self.front.issuer.token(**{"nonce": asked["nonce"], **claims})
        return self.ask("POST", "/api/session", body={"state": asked["state"], "id_token": token})

    def sign_in(self, **claims: Any) -> Reply:
        return self.come_back(self.begin(), **claims)
