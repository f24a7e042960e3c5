"""The loopback socket at which a sandboxed process finds its input: made inside its own network, held by us.

With bubblewrap the process has a network of its own, in which nothing is but its own loopback. The socket is made
there and handed to us before the program starts; so it reaches our relay, and nothing else reaches it or is
reached by it. Without bubblewrap it is a port of the machine's loopback. What is relayed is not known here.
"""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Final

from shared.errors import RetryableError

LOOPBACK: Final = "127.0.0.1"
PRIVATE_PORT: Final = 8554
_BACKLOG: Final = 16
_HANDED_OVER_S: Final = 10.0

# Runs inside the sandbox, then becomes the program; nothing of it stays.
_LAUNCH: Final = """
import os, socket, sys
channel = socket.socket(fileno=int(sys.argv[1]))
kind, port = int(sys.argv[2]), int(sys.argv[3])
made = socket.socket(socket.AF_INET, kind)
made.bind(("127.0.0.1", port))
if kind == socket.SOCK_STREAM:
    made.listen(16)
socket.send_fds(channel, [b"x"], [made.fileno()])
made.close()
channel.close()
os.execvp(sys.argv[4], sys.argv[4:])
"""


class NoRelaySocket(RetryableError):
    """The sandbox did not hand a socket over."""

    code = "no_relay_socket"


def python() -> Path:
    """The interpreter that starts in a sandbox; its standard library lies beside it."""
    return Path(sys.executable).resolve()


def launched(command: list[str], *, channel: socket.socket, kind: socket.SocketKind) -> list[str]:
    """The command line that makes the socket, hands it over through `channel`, and becomes the command."""
    numbers = (str(channel.fileno()), str(int(kind)), str(PRIVATE_PORT))
    return [str(python()), "-I", "-S", "-c", _LAUNCH, *numbers, *command]


def made_here(kind: socket.SocketKind) -> socket.socket:
    """A socket on a free port of the machine's loopback."""
    made = socket.socket(socket.AF_INET, kind)
    made.bind((LOOPBACK, 0))
    if kind is socket.SOCK_STREAM:
        made.listen(_BACKLOG)
    made.setblocking(False)
    return made


async def handed_over(channel: socket.socket) -> socket.socket:
    """The socket from inside the sandbox. Raises NoRelaySocket."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(channel.fileno(), ready.set)
    try:
        async with asyncio.timeout(_HANDED_OVER_S):
            await ready.wait()
        _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    except TimeoutError as error:
        raise NoRelaySocket("the sandbox did not start in time") from error
    finally:
        loop.remove_reader(channel.fileno())
    if not descriptors:
        raise NoRelaySocket("the sandbox ended before it started")
    made = socket.socket(fileno=descriptors[0])
    made.setblocking(False)
    return made
