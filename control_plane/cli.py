"""The commands: ``serve`` (the control plane), ``key create`` (the first key, by AWS credentials), ``doctor``, and
``prices refresh``."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
import uvloop
from botocore.exceptions import BotoCoreError

from control_plane import logs
from control_plane.addresses import InvalidAddress, fold
from control_plane.allowlist import EFFECTIVE_S, Allowlist, not_on_allowlist
from control_plane.api_keys import ApiKeys
from control_plane.app import ControlPlane
from control_plane.aws_session import aws_session
from control_plane.dynamo import DynamoEvents, DynamoKeys, DynamoOverrides, open_dynamo
from control_plane.errors import DiogenesError, InvalidRequest
from control_plane.event import EventKind
from control_plane.event_log import EventLog
from control_plane.fresh import Fresh
from control_plane.http_server import configured
from control_plane.inside import inside
from control_plane.outside import adapters
from control_plane.parameters import SsmEntrance
from control_plane.prices import FILE
from control_plane.settings import InvalidSettings, Settings

if TYPE_CHECKING:
    from control_plane.traces import Traces

EVENT_S = 10.0  # what writing an event may add to a command
GC_THRESHOLD = 50_000  # young objects between collections: a pause of the collector is a pause of every stream


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0, 1 when AWS did not let us or the doctor found a failure, 2 for odd arguments or settings."""
    options = _parser().parse_args(arguments)
    if options.command == "doctor":
        return doctor(options.directory, options.stack, as_list=options.json)
    if options.command == "prices":
        return refresh_prices(options.region)
    try:
        settings = Settings.from_env(os.environ)
    except InvalidSettings as error:
        print(f"diogenes: {error}", file=sys.stderr)
        return 2
    try:
        if options.command == "serve":
            uvloop.run(serve(settings))
        else:
            print(asyncio.run(create_key(settings, email=options.email, name=options.name)))
    except DiogenesError as error:
        print(f"diogenes: {error}", file=sys.stderr)
        return 1
    except BotoCoreError as error:  # no region, no credentials: said before any client of ours exists
        print(f"diogenes: the AWS SDK is not set up: {error}", file=sys.stderr)
        return 1
    return 0


def doctor(folder: Path, stack: str, *, as_list: bool) -> int:
    """Print what is found; 1 with a failure, else 0."""
    from control_plane.doctor.command import examine_stack  # here, so that ``serve`` starts without it

    status, text = asyncio.run(examine_stack(os.environ, folder=folder, stack=stack, as_list=as_list))
    print(text)
    return status


def refresh_prices(region: str) -> int:
    """Write the price file of this version anew, and print what changed; 1 when AWS did not let us."""
    import boto3  # here, so that ``serve`` starts without it
    from botocore.exceptions import ClientError

    from control_plane.price_list import ENDPOINT_REGION, refresh

    client = boto3.client("pricing", region_name=ENDPOINT_REGION)
    try:
        done = refresh(FILE.read_text(), client, region=region, today=datetime.now(UTC).date())
    except (BotoCoreError, ClientError) as error:
        print(f"diogenes: AWS's price list: {error}", file=sys.stderr)
        return 1
    FILE.write_text(done.text)
    print("\n".join([*done.changed, *(f"{name}: not in the list, kept" for name in done.kept)]) or "nothing changed")
    return 0


async def create_key(settings: Settings, *, email: str, name: str) -> str:
    """A new key for somebody on the allowlist, in clear. Raises Unavailable, and InvalidRequest or Forbidden."""
    try:
        person = fold(email)
    except InvalidAddress:
        raise InvalidRequest(f"{email} is no email address.") from None
    session = aws_session()
    async with open_dynamo(session) as client, SsmEntrance(settings.namespace, session=session) as entrance:
        fresh = Fresh(entrance, clock=time.time, limit_s=EFFECTIVE_S)
        allowlist = Allowlist(fresh, DynamoOverrides(client, settings.namespace), clock=time.time)
        if not (await allowlist.roster()).admits(person):
            raise not_on_allowlist(person)
        keys = ApiKeys(DynamoKeys(client, settings.namespace), clock=time.time, entropy=secrets.token_bytes)
        key, row = await keys.create(email=person, name=name)
        store = DynamoEvents(client, settings.namespace, clock=time.time)
        log = EventLog(store, clock=time.time, writer=secrets.token_hex(16), cause="command line")
        told = f"The key {row.name} was made for {person} by command."
        log.tell(EventKind.KEY_CREATED, told, data={"key_id": row.id, "of": person})
        await log.settle(EVENT_S)  # the key is there: it is printed, whatever becomes of its event
        return key


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT: then nobody new comes in, streams go on for ``stop_timeout_s``, and it ends."""
    logs.configure()
    async with adapters(settings, streams=True) as outside, traces(settings) as traced:
        control_plane = ControlPlane(settings, outside, clock=time.time, traces=traced)
        _ = control_plane.management  # now, since whoever asked first would hold up all who stream
        server = Server(control_plane, settings)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 20)
        async with inside(control_plane.exposition, host=settings.host, port=settings.metrics_port):
            await server.serve()


@asynccontextmanager
async def traces(settings: Settings) -> AsyncIterator[Traces | None]:
    """Where the requests and starts of this process are traced to; None where nobody wants that."""
    if not settings.traces_endpoint:
        yield None
        return
    from control_plane.otlp import Otlp, SsmHeaders  # here, so that nobody else pays for it
    from control_plane.traces import Traces

    headers = SsmHeaders(settings.traces_headers_parameter)
    async with Otlp(settings.traces_endpoint, namespace=settings.namespace, headers=headers) as export:
        yield Traces(export, clock=time.time, entropy=os.urandom)


class Server(uvicorn.Server):
    """uvicorn, telling the control plane when it begins to stop."""

    def __init__(self, control_plane: ControlPlane, settings: Settings) -> None:
        super().__init__(
            configured(
                control_plane.app,
                host=settings.host,
                port=settings.port,
                backlog=4096,
                timeout_keep_alive=75,  # longer than the load balancer's own, which must be the one to close
                timeout_graceful_shutdown=int(settings.stop_timeout_s),
            )
        )
        self._control_plane = control_plane

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._control_plane.send_away()
        await super().shutdown(sockets)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="diogenes", description="A personal LLM backend that scales to zero.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="run the control plane; settings are DIOGENES_* variables")
    key = commands.add_parser("key", help="API keys").add_subparsers(dest="action", required=True)
    create = key.add_parser("create", help="make a key and print it, for the only time")
    create.add_argument("--email", required=True, help="whose key it is")
    create.add_argument("--name", required=True, help="what it is for")
    prices = commands.add_parser("prices", help="the price file").add_subparsers(dest="action", required=True)
    anew = prices.add_parser("refresh", help="take the prices of a region from AWS's price list into prices.json")
    anew.add_argument("--region", default="us-east-1", help="whose prices (us-east-1)")
    look = commands.add_parser("doctor", help="what stands in the way of a deployment, or is wrong with it; reads only")
    look.add_argument("--stack", default="prod", help="whose Pulumi.<stack>.yaml to read (prod)")
    look.add_argument("--directory", type=Path, default=Path(), help="where Pulumi.yaml is (here)")
    look.add_argument("--json", action="store_true", help="a list of {check, status, message, fix}")
    return parser
