"""Relays between FFmpeg and a server that a customer named: bytes over TCP, with or without TLS, and datagrams.

FFmpeg speaks to our socket only; where the bytes go is judged and dialled here. What they mean is not known, but for
`Rewrite`, which sees each direction's bytes before they go on.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol, cast

import structlog

from ingest.adapters.remux.dial import Dialler
from ingest.domain.actions import FailureKind, FetchFailure
from ingest.workflow.ports import FetchFailed
from shared.addresses import HostPort
from shared.errors import PermanentError, RetryableError

log = structlog.get_logger()

SILENCE_S: Final = 10.0
READ_BYTES: Final = 65536
MOST_CONNECTIONS: Final = 8


class Rewrite(Protocol):
    """What is done to the bytes of one connection. Raises PermanentError for what is not passed on."""

    def to_server(self, chunk: bytes) -> bytes: ...

    def to_ffmpeg(self, chunk: bytes) -> tuple[bytes, bytes]:
        """What goes on to FFmpeg, and what goes back to the server."""
        ...


class Untouched:
    """Bytes as they are."""

    def to_server(self, chunk: bytes) -> bytes:
        return chunk

    def to_ffmpeg(self, chunk: bytes) -> tuple[bytes, bytes]:
        return chunk, b""


class WireRelay(Protocol):
    """`failure` is why there was no connection, or why it was given up."""

    failure: FetchFailure | None

    @asynccontextmanager
    def serve(self, made: socket.socket) -> AsyncIterator[None]: ...


class TcpRelay:
    """Each connection of FFmpeg is one to the server. Silence of the server ends it, so FFmpeg can finish."""

    def __init__(
        self, dialler: Dialler, target: HostPort, *, is_tls: bool, rewrite: Callable[[], Rewrite] = Untouched
    ) -> None:
        self._dialler = dialler
        self._target = target
        self._is_tls = is_tls
        self._rewrite = rewrite
        self._connections: set[asyncio.Task[None]] = set()
        self.failure: FetchFailure | None = None

    @asynccontextmanager
    async def serve(self, made: socket.socket) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._accept, sock=made)
        try:
            yield
        finally:
            server.close()
            for task in tuple(self._connections):
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MOST_CONNECTIONS:
            writer.close()
            return
        task = asyncio.create_task(self._relay(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await self._dialler.connect(self._target, is_tls=self._is_tls)
            try:
                await self._pump(reader, writer, far_reader, far_writer)
            finally:
                far_writer.close()
        except FetchFailed as failed:
            self.failure = failed.failure
        except PermanentError as error:
            self.failure = FetchFailure(kind=FailureKind.REFUSED, detail=str(error))
        except RetryableError as error:
            self.failure = FetchFailure(kind=FailureKind.CORRUPT, detail=str(error))
        except OSError as error:
            self.failure = FetchFailure(kind=FailureKind.NETWORK, detail=str(error))
        finally:
            writer.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        rewrite = self._rewrite()
        upwards = asyncio.create_task(_pump_up(reader, far_writer, rewrite))
        try:
            await _pump_down(far_reader, writer, far_writer, rewrite)
        finally:
            upwards.cancel()
            with suppress(asyncio.CancelledError, OSError, RetryableError):
                await upwards


async def _pump_up(reader: asyncio.StreamReader, far_writer: asyncio.StreamWriter, rewrite: Rewrite) -> None:
    while chunk := await reader.read(READ_BYTES):
        far_writer.write(rewrite.to_server(chunk))
        await far_writer.drain()


async def _pump_down(
    far_reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_writer: asyncio.StreamWriter,
    rewrite: Rewrite,
) -> None:
    while chunk := await _in_time(far_reader):
        onwards, back = rewrite.to_ffmpeg(chunk)
        far_writer.write(back)
        writer.write(onwards)
        await writer.drain()


async def _in_time(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(SILENCE_S):
            return await reader.read(READ_BYTES)
    except TimeoutError as error:
        detail = f"no bytes for {SILENCE_S:g} s"
        raise FetchFailed(FetchFailure(kind=FailureKind.TIMEOUT, detail=detail)) from error


class UdpRelay:
    """Datagrams between FFmpeg, whichever port it speaks from first, and the server."""

    def __init__(self, dialler: Dialler, target: HostPort) -> None:
        self._dialler = dialler
        self._target = target
        self.failure: FetchFailure | None = None

    @asynccontextmanager
    async def serve(self, made: socket.socket) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        address = (await self._dialler.addresses(self._target))[0]
        far_transport, far = await loop.create_datagram_endpoint(
            _Side, remote_addr=(address, self._target.port)
        )
        near_transport, near = await loop.create_datagram_endpoint(_Side, sock=made)
        far.other, near.other = near, far
        try:
            yield
        finally:
            near_transport.close()
            far_transport.close()
            if not far.has_received:
                detail = far.fault or "no answer"
                self.failure = FetchFailure(kind=FailureKind.NETWORK, detail=detail)


class _Side(asyncio.DatagramProtocol):
    """One end: what it receives, the other one sends. `peer` is whom it answers where it is not connected."""

    def __init__(self) -> None:
        self.other: _Side | None = None
        self.has_received = False
        self.fault = ""
        self._peer: tuple[str, int] | None = None
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._peer = self._peer or addr
        if addr == self._peer and self.other is not None:
            self.has_received = True
            self.other.send(data)

    def error_received(self, exc: Exception) -> None:
        self.fault = str(exc)

    def send(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        is_connected = self._transport.get_extra_info("peername") is not None
        if is_connected:
            self._transport.sendto(data)
        elif self._peer is not None:
            self._transport.sendto(data, self._peer)
