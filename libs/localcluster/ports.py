"""Free loopback ports for local servers; nothing listens here."""

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
LOWEST_PORT = 15_000
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
DEFAULT_EPHEMERAL_START = 32_768
ATTEMPTS = 500


class NoFreePortError(Exception):
    """No port could be claimed below the ephemeral range."""


def claim_port() -> int:
    """A TCP port on 127.0.0.1 that is free now and that no other process using this module is given.

    Ports come from below the kernel's ephemeral range: a server's port must stay its own while it is
    killed and restarted, and a client that keeps connecting to a dead port *inside* that range can be
    given the very port as its source and connect to itself. The claim is an abstract Unix socket, which
    the kernel frees when this process ends. A foreign program can still take the port between this call
    and the server's bind; servers therefore try again with other ports when their first start fails.

    Raises:
        NoFreePortError: nothing was free in 500 attempts.
    """
    highest = _ephemeral_start() - 1
    for _ in range(ATTEMPTS):
        port = random.randint(LOWEST_PORT, highest)
        if _is_free(port) and _claim(port):
            return port
    raise NoFreePortError(f"no free port between {LOWEST_PORT} and {highest}")


def claim_ports(count: int) -> tuple[int, ...]:
    """`count` different ports, each as by `claim_port`."""
    return tuple(claim_port() for _ in range(count))


def is_listening(port: int, *, timeout_s: float = 0.5) -> bool:
    """Whether something accepts TCP connections on 127.0.0.1:`port`."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=timeout_s):
            return True
    except OSError:
        return False


def _ephemeral_start() -> int:
    try:
        start = int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return DEFAULT_EPHEMERAL_START
    return start if start > LOWEST_PORT + 1_000 else DEFAULT_EPHEMERAL_START


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _claim(port: int) -> bool:
    """Take the machine-wide name for `port`; the descriptor is left open on purpose until the process ends."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0tldr-localcluster-port-{port}")
    except OSError:
        claim.close()
        return False
    claim.detach()
    return True
