"""A camera: plays the pictures of a film over RTSP, interleaved in the one connection, to who knows its password."""

import asyncio
import hashlib
import re
import socket
from contextlib import suppress
from pathlib import Path

USER, PASSWORD, REALM, NONCE = "viewer", "p@ss word", "camera", "abc123"


class RtspCamera:
    """An async context manager. `redirect` answers every request with another address, in a reply of `moved`.

    `heard` are its requests.
    """

    def __init__(
        self, film: Path, *, has_password: bool = False, redirect: str = "", moved: str = "302 Moved"
    ) -> None:
        self._film = film
        self._has_password = has_password
        self._redirect = redirect
        self._moved = moved
        self.heard: list[str] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "RtspCamera":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await self._request(reader)
                reply, body = await self._reply(request)
                writer.write(f"RTSP/1.0 {reply}\r\nCSeq: {_field(request, 'CSeq')}\r\n{body}".encode())
                if request.startswith("PLAY ") and reply.startswith("200") and self._server is not None:
                    self._server.close()  # it plays once
                    await self._play(writer)
                    return
        writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> str:
        while True:
            first = await reader.readexactly(1)
            if first != b"$":
                text = (first + await reader.readuntil(b"\r\n\r\n")).decode()
                self.heard.append(text)
                return text
            header = await reader.readexactly(3)
            await reader.readexactly(int.from_bytes(header[1:], "big"))

    async def _reply(self, request: str) -> tuple[str, str]:
        method, address = request.split(" ", 2)[:2]
        if self._redirect:
            return self._moved, f"Location: {self._redirect}\r\n\r\n"
        if self._has_password and method != "OPTIONS" and not _is_authorized(request, method):
            return "401 Unauthorized", f'WWW-Authenticate: Digest realm="{REALM}", nonce="{NONCE}"\r\n\r\n'
        if method == "DESCRIBE":
            sdp = await self._description()
            head = (
                f"Content-Base: {address}/\r\nContent-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n"
            )
            return "200 OK", f"{head}\r\n{sdp}"
        if method == "SETUP":
            return "200 OK", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n"
        return "200 OK", "Session: 1\r\nPublic: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n"

    async def _description(self) -> str:
        described = await asyncio.create_subprocess_exec(
            *("ffmpeg", "-v", "error", "-i", str(self._film), "-map", "0:v", "-c", "copy", "-t", "0.1"),
            *("-f", "rtp", "-sdp_file", "pipe:1", "rtp://127.0.0.1:9"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            stdin=asyncio.subprocess.DEVNULL,
        )
        text = (await described.communicate())[0].decode()
        lines = [line for line in text.splitlines() if line and not line.startswith("SDP:")]
        return "\r\n".join([re.sub(r"^m=video \d+", "m=video 0", line) for line in lines]) + "\r\n"

    async def _play(self, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
            packets.bind(("127.0.0.1", 0))
            packets.setblocking(False)
            port = packets.getsockname()[1]
            sender = await asyncio.create_subprocess_exec(
                *(
                    "ffmpeg",
                    "-v",
                    "error",
                    "-readrate",
                    "4",
                    "-i",
                    str(self._film),
                    "-map",
                    "0:v",
                    "-c",
                    "copy",
                ),
                *("-f", "rtp", f"rtp://127.0.0.1:{port}?rtcpport=9&pkt_size=1200"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
            )
            try:
                while True:
                    async with asyncio.timeout(2):
                        packet = await loop.sock_recv(packets, 65535)
                    writer.write(b"$\0" + len(packet).to_bytes(2, "big") + packet)
                    await writer.drain()
            except (TimeoutError, ConnectionError):
                writer.close()
            finally:
                with suppress(ProcessLookupError):
                    sender.kill()
                await sender.wait()


def _field(request: str, name: str) -> str:
    found = re.search(rf"^{name}: (.*)\r$", request, re.MULTILINE)
    return found[1] if found else ""


def _is_authorized(request: str, method: str) -> bool:
    """The digest must be of the address in the request line, as strict cameras demand."""
    address = request.split(" ", 2)[1]
    said = _field(request, "Authorization")
    secret = hashlib.md5(f"{USER}:{REALM}:{PASSWORD}".encode(), usedforsecurity=False).hexdigest()
    wanted = hashlib.md5(f"{method}:{address}".encode(), usedforsecurity=False).hexdigest()
    expected = hashlib.md5(f"{secret}:{NONCE}:{wanted}".encode(), usedforsecurity=False).hexdigest()
    return f'uri="{address}"' in said and f'response="{expected}"' in said
