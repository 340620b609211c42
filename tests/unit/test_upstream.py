"""The client towards engines: whatever a server does on the wire becomes an answer or UpstreamLost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from control_plane.upstream import HIGH_WATER_BYTES, IDLE_S, Upstream, UpstreamLost, Upstreams
from tests.stories.virtual import story

HEAD = b"POST /v1/x HTTP/1.1\r\nhost: e\r\ncontent-length: 2\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
"""What the server does with a connection; told how many came before it."""


class Server:
    def __init__(self, script: Script) -> None:
        self._script = script
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._script(reader, writer, self.connections - 1)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[tuple[Server, Upstreams]]:
    server = Server(script)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    upstreams = Upstreams(monotonic=asyncio.get_running_loop().time)
    try:
        yield server, upstreams
    finally:
        upstreams.close()
        listening.close()


async def asked(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(2)


async def ask(server: Server, upstreams: Upstreams) -> Upstream:
    return await upstreams.post(("127.0.0.1", server.port), HEAD, b"{}")


async def answer(server: Server, upstreams: Upstreams) -> bytes:
    upstream = await ask(server, upstreams)
    try:
        return await upstream.read_all(1 << 30)
    finally:
        upstream.close()


def always(*pieces: bytes, pause_s: float = 0.0) -> Script:
    """Answers every request with these pieces, one packet each."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        while True:
            await asked(reader)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)

    return script


def once_then_close(data: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await asked(reader)
        writer.write(data)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return script


def halves(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((data[:place], data[place:]) for place in range(1, len(data)))


@story
async def test_a_connection_is_used_again() -> None:
    async with serving(always(PLAIN)) as (server, upstreams):
        assert [await answer(server, upstreams) for _ in range(3)] == [b"hello"] * 3
        assert server.connections == 1


@story
async def test_requests_at_the_same_time_have_connections_of_their_own() -> None:
    async with serving(always(PLAIN, pause_s=1)) as (server, upstreams):
        assert await asyncio.gather(*(answer(server, upstreams) for _ in range(3))) == [b"hello"] * 3
        assert server.connections == 3


@pytest.mark.parametrize("data", [PLAIN, CHUNKED])
def test_an_answer_may_arrive_in_any_two_pieces(data: bytes) -> None:
    @story
    async def arrives() -> None:
        for first, second in halves(data):
            async with serving(always(first, second, pause_s=0.1)) as (server, upstreams):
                assert [await answer(server, upstreams) for _ in range(2)] == [b"hello"] * 2
                assert server.connections == 1

    arrives()


@story
async def test_headers_are_told_in_lower_case() -> None:
    async with serving(always(PLAIN)) as (server, upstreams):
        upstream = await ask(server, upstreams)
        assert (upstream.status, upstream.headers) == (
            200,
            [(b"content-type", b"text/plain"), (b"content-length", b"5")],
        )
        upstream.close()


@story
async def test_interim_answers_are_skipped() -> None:
    interim = b"HTTP/1.1 100 Continue\r\nx-old: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    for pieces in ((interim + PLAIN,), (interim, PLAIN)):
        async with serving(always(*pieces, pause_s=0.1)) as (server, upstreams):
            upstream = await ask(server, upstreams)
            assert (upstream.status, dict(upstream.headers).get(b"x-old")) == (200, None)
            assert await upstream.read_all(100) == b"hello"
            upstream.close()


@story
async def test_a_connection_that_the_engine_closed_while_idle_is_replaced() -> None:
    async with serving(once_then_close(PLAIN)) as (server, upstreams):
        assert await answer(server, upstreams) == b"hello"
        await asyncio.sleep(1)
        assert await answer(server, upstreams) == b"hello"
        assert server.connections == 2


@story
async def test_a_kept_connection_that_dies_under_the_request_is_replaced() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await asked(reader)
        writer.write(PLAIN)
        await asked(reader)  # the second request on the first connection gets no answer
        if number:
            writer.write(PLAIN)

    async with serving(script) as (server, upstreams):
        assert [await answer(server, upstreams) for _ in range(2)] == [b"hello"] * 2
        assert server.connections == 2


@story
async def test_a_connection_that_idled_too_long_is_not_trusted() -> None:
    async with serving(always(PLAIN)) as (server, upstreams):
        await answer(server, upstreams)
        await asyncio.sleep(IDLE_S + 0.1)
        assert await answer(server, upstreams) == b"hello"
        assert server.connections == 2


@story
async def test_a_server_that_wants_to_close_is_not_asked_again() -> None:
    closing = PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with serving(always(closing)) as (server, upstreams):
        assert [await answer(server, upstreams) for _ in range(2)] == [b"hello"] * 2
        assert server.connections == 2


@story
async def test_a_refused_connection_is_lost() -> None:
    async with serving(always(PLAIN)) as (server, upstreams):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            server.port = unused.getsockname()[1]
            with pytest.raises(UpstreamLost, match="cannot connect"):
                await ask(server, upstreams)


@story
async def test_a_host_that_never_answers_is_given_up() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        crowd = []
        for _ in range(4):
            crowd.append(socket.socket())
            crowd[-1].setblocking(False)
            crowd[-1].connect_ex(full.getsockname())
        with pytest.raises(UpstreamLost, match="cannot connect"):
            await Upstreams(connect_timeout_s=3.0).post(full.getsockname(), HEAD, b"{}")
        for one in crowd:
            one.close()


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_connection_that_ends_before_the_head_is_lost(data: bytes) -> None:
    @story
    async def lost() -> None:
        async with serving(once_then_close(data)) as (server, upstreams):
            with pytest.raises(UpstreamLost):
                await ask(server, upstreams)

    lost()


@pytest.mark.parametrize("data", [PLAIN[:-1], CHUNKED[:-5], CHUNKED[:-2], b"HTTP/1.1 200 OK\r\n\r\nhello"])
def test_a_connection_that_ends_in_the_body_is_lost_after_what_came(data: bytes) -> None:
    @story
    async def lost() -> None:
        async with serving(once_then_close(data)) as (server, upstreams):
            upstream = await ask(server, upstreams)
            with pytest.raises(UpstreamLost):
                await upstream.read_all(1 << 20)
            upstream.close()
            with pytest.raises(UpstreamLost):
                await answer(server, upstreams)
            assert server.connections == 2

    lost()


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH\r\n\r\n", b"\x16\x03\x01\x02", b"HTTP/9.9 999\r\n\r\n"])
def test_what_is_no_http_is_lost(data: bytes) -> None:
    @story
    async def lost() -> None:
        async with serving(always(data)) as (server, upstreams):
            with pytest.raises(UpstreamLost, match="not HTTP"):
                await ask(server, upstreams)

    lost()


@story
async def test_garbage_in_a_chunked_body_is_lost() -> None:
    async with serving(always(CHUNKED.replace(b"2\r\nlo", b"zz\r\nlo"))) as (server, upstreams):
        with pytest.raises(UpstreamLost, match="not HTTP"):
            await answer(server, upstreams)


@story
async def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    async with serving(always(PLAIN, b"HTTP/1.1 200 OK\r\n", pause_s=0.5)) as (server, upstreams):
        assert await answer(server, upstreams) == b"hello"
        await asyncio.sleep(1)
        assert await answer(server, upstreams) == b"hello"
        assert server.connections == 2


@story
async def test_who_reads_nothing_stops_the_engine() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        nonlocal sent
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n")
        for _ in range(500):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000
        await reader.read()  # the client leaves when it has all: until then, some may still be on its way

    async with serving(endless) as (server, upstreams):
        upstream = await ask(server, upstreams)
        await asyncio.sleep(10)
        assert sent < 20_000_000  # the kernel's part
        assert len(await upstream.read()) < HIGH_WATER_BYTES + 256 * 1024  # ours, and one read of the loop
        assert len(await upstream.read_all(100_000_000)) > 49_000_000
        upstream.close()


@story
async def test_closing_an_answer_that_is_not_at_its_end_hangs_up() -> None:
    hung_up = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await asked(reader)
        writer.write(PLAIN[:-1])
        assert await reader.read() == b""
        hung_up.set()

    async with serving(script) as (server, upstreams):
        upstream = await ask(server, upstreams)
        assert await upstream.read() == b"hell"
        upstream.close()
        async with asyncio.timeout(1):
            await hung_up.wait()


@story
async def test_an_answer_that_nobody_took_does_not_silence_the_next() -> None:
    large = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000
    async with serving(always(large)) as (server, upstreams):
        upstream = await ask(server, upstreams)
        await asyncio.sleep(1)  # all of it is here now
        upstream.close()
        async with asyncio.timeout(10):
            assert len(await answer(server, upstreams)) == 100_000


@story
async def test_a_large_request_arrives_whole() -> None:
    got = b""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        nonlocal got
        await reader.readuntil(b"\r\n\r\n")
        got = await reader.readexactly(10_000_000)
        writer.write(PLAIN)
        await reader.read()

    async with serving(script) as (server, upstreams):
        body = bytes(range(250)) * 40_000
        upstream = await upstreams.post(("127.0.0.1", server.port), HEAD, body)
        assert (await upstream.read(), got == body) == (b"hello", True)
        upstream.close()


@story
async def test_the_kernel_watches_for_hosts_that_are_switched_off() -> None:
    async with serving(always(PLAIN)) as (server, upstreams):
        upstream = await ask(server, upstreams)
        assert upstream._transport
        sock = upstream._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        idle_s, every_s, times = (sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names)
        assert idle_s + every_s * times <= 30
        upstream.close()
