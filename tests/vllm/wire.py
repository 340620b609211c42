"""What goes over loopback between the control plane and one engine, heard from outside: it changes nothing."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple

import httptools
import pytest

from gpu_node.protocol import ENGINE_PORT

_ALL_IP = 0x0800
_SOL_PACKET, _STATISTICS = 263, 6
_SO_RCVBUFFORCE, _SO_ATTACH_FILTER = 33, 26
_BUFFER_BYTES = 64 * 1024 * 1024
_TCP = 6

Flow = tuple[str, int, str, int]


class Exchange(NamedTuple):
    """The bodies of one request to the engine, and of its answer."""

    asked: bytes
    answered: bytes


class Wire:
    """Hears one address while it is entered; skips the test where nobody may listen (CAP_NET_RAW)."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._flows: dict[Flow, dict[int, bytes]] = {}

    def __enter__(self) -> Wire:
        try:
            # The kernel keeps what it hears until it is asked for: no thread, and nothing in anybody's way. Asked for
            # one protocol, it tells of each packet once, as it arrives.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_IP))
        except PermissionError:
            pytest.skip("to hear loopback takes root")
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._listen_to_nothing_else()
        self._socket.bind(("lo", _ALL_IP))
        self._socket.setblocking(False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._socket:
            _, lost = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 8))
            assert not lost, f"{lost} packets were not heard"
            while True:
                try:
                    self._hear(self._socket.recv(1 << 17))
                except BlockingIOError:
                    return

    def exchange(self, path: str) -> Exchange:
        """The only request for ``path`` that was heard, with its answer."""
        requests = {flow: data for flow, data in self._streams().items() if data.startswith(f"POST {path} ".encode())}
        ((flow, request),) = requests.items()
        answer = self._streams()[(*flow[2:], *flow[:2])]
        return Exchange(_body(request, httptools.HttpRequestParser), _body(answer, httptools.HttpResponseParser))

    def _listen_to_nothing_else(self) -> None:
        """Loopback is busy. A filter of the kernel's (man 4 bpf): load source, compare; load target, compare."""
        address = struct.unpack("!I", socket.inet_aton(self._address))[0]
        load, equal, answer = 0x20, 0x15, 0x06
        steps = (
            (load, 0, 0, 12),
            (equal, 2, 0, address),
            (load, 0, 0, 16),
            (equal, 0, 1, address),
            (answer, 0, 0, 1 << 18),  # all of it
            (answer, 0, 0, 0),
        )
        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
        told = struct.pack("HL", len(steps), ctypes.addressof(program))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, told)

    def _hear(self, packet: bytes) -> None:
        header = (packet[0] & 0xF) * 4
        source, target = (socket.inet_ntoa(packet[place : place + 4]) for place in (12, 16))
        if packet[9] != _TCP:
            return
        source_port, target_port, number = struct.unpack_from("!HHI", packet, header)
        if ENGINE_PORT not in (source_port, target_port):
            return
        (length,) = struct.unpack_from("!H", packet, 2)
        data = packet[header + (packet[header + 12] >> 4) * 4 : length or None]
        if data:
            self._flows.setdefault((source, source_port, target, target_port), {})[number] = data

    def _streams(self) -> Mapping[Flow, bytes]:
        return {flow: _joined(segments) for flow, segments in self._flows.items()}


def _joined(segments: Mapping[int, bytes]) -> bytes:
    """A stream's bytes, from its first segment that was heard on; segment numbers begin again after 2**32."""
    first = next(iter(segments))
    return b"".join(segments[number] for number in sorted(segments, key=lambda number: (number - first) % 2**32))


class _Body:
    def __init__(self) -> None:
        self.data = b""
        self.complete = False

    def on_body(self, body: bytes) -> None:
        self.data += body

    def on_message_complete(self) -> None:
        self.complete = True


def _body(message: bytes, parser: type[httptools.HttpRequestParser] | type[httptools.HttpResponseParser]) -> bytes:
    body = _Body()
    parser(body).feed_data(message)
    assert body.complete, "not all of a message was heard"
    return body.data
