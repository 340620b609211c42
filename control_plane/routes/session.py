"""Sign-in by browser, who one is, and out again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from control_plane.door import Principal
from control_plane.errors import Forbidden, InvalidRequest, Unauthenticated
from control_plane.event import EventKind
from control_plane.people import Session
from control_plane.routes.caller import Caller
from control_plane.routes.cookies import Cookies, parse
from control_plane.services import Services
from control_plane.sign_in import BEGUN_S, Answer, state_of

router = APIRouter()


class Start(BaseModel, extra="forbid"):
    """Where to sign in, and where in the web app to go on afterwards."""

    provider: Annotated[str, Field(min_length=1, max_length=64)]
    return_to: Annotated[str, Field(max_length=2048)] = "/"


class ComeBack(BaseModel, extra="forbid"):
    """What the provider sent the browser back with: an ID token or a code."""

    state: Annotated[str, Field(max_length=256)]
    id_token: Annotated[str, Field(max_length=16384)] = ""
    code: Annotated[str, Field(max_length=2048)] = ""


class Begun(TypedDict):
    """Where the browser has to go."""

    authorize_url: str


class SessionEntry(TypedDict):
    """Who one is; with a session, until when. Unix seconds."""

    email: str
    owner: bool
    provider: str | None
    expires_at: float | None
    absolute_expires_at: float | None


class SignedIn(SessionEntry):
    """And where the web app goes on."""

    return_to: str


@router.post("/api/session/start")
async def start(where: Start, request: Request, response: Response) -> Begun:
    """The address to go to. Stores nothing here, and wakes nothing."""
    services: Services = request.app.state.services
    await _check_origin(services, request)
    begun = await services.sign_in.begin(where.provider, return_to=where.return_to)
    name = _cookies(request).sign_in(begun.state)
    response.headers.append("set-cookie", _cookies(request).setting(name, begun.cookie, max_age_s=BEGUN_S))
    return {"authorize_url": begun.authorize_url}


@router.post("/api/session", status_code=201)
async def finish(back: ComeBack, request: Request, response: Response) -> SignedIn:
    """A session for what the provider said; the same answer of a provider is good for one."""
    services: Services = request.app.state.services
    await _check_origin(services, request)
    if bool(back.id_token) == bool(back.code):
        raise InvalidRequest("Send what the provider answered: either `id_token` or `code`.", param="id_token")
    name = _cookies(request).sign_in(state_of(back.state))
    began = parse(request.headers.get("cookie", "")).get(name, "")
    done = await services.sign_in.finish(Answer(back.state, back.id_token, back.code), cookie=began)
    told = f"{done.session.email} signed in with {done.session.provider}."
    services.log.tell(EventKind.SIGNED_IN, told, cause=done.session.email, data={"provider": done.session.provider})
    lifetime_s = done.session.absolute_expires_at - services.clock()
    response.headers.append("set-cookie", _cookies(request).clearing(name))
    response.headers.append(
        "set-cookie", _cookies(request).setting(_cookies(request).session, done.cookie, max_age_s=lifetime_s)
    )
    roster = await services.allowlist.roster()
    person = Principal(done.session.email, roster.owns(done.session.email), session=done.session)
    return {**_described(person, done.session), "return_to": done.return_to}


@router.get("/api/session")
async def who(caller: Caller) -> SessionEntry:
    """Who is asking, and in a browser, until when."""
    return _described(caller, caller.session)


@router.delete("/api/session", status_code=204)
async def sign_out(request: Request, response: Response, caller: Caller, everywhere: bool = False) -> None:
    """This browser, or every browser of this person; elsewhere it holds within ten seconds."""
    services: Services = request.app.state.services
    if everywhere:
        await services.sessions.end_all(caller.email)
    elif caller.session:
        await services.sessions.end(caller.session)
    else:
        raise Unauthenticated("There is no session to end: this request came without its cookie.", code="no_session")
    told = f"{caller.email} signed out{' everywhere' if everywhere else ''}."
    services.log.tell(EventKind.SIGNED_OUT, told, cause=caller.email, data={"everywhere": everywhere})
    response.headers.append("set-cookie", _cookies(request).clearing(_cookies(request).session))


def _cookies(request: Request) -> Cookies:
    cookies: Cookies = request.app.state.cookies
    return cookies


async def _check_origin(services: Services, request: Request) -> None:
    """A sign-in begins and ends on our own pages."""
    origin = request.headers.get("origin")
    if origin and origin != await services.sign_in.web_url():
        raise Forbidden("This request came from another site.", code="csrf_failed")


def _described(person: Principal, session: Session | None) -> SessionEntry:
    return {
        "email": person.email,
        "owner": person.owner,
        "provider": session.provider if session else person.provider,
        "expires_at": session.expires_at if session else None,
        "absolute_expires_at": session.absolute_expires_at if session else None,
    }
