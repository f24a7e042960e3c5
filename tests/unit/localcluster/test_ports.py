"""Claimed ports: free, different, and out of the ephemeral range."""

import random
import socket
from pathlib import Path

import pytest

from localcluster import ports


def test_claimed_ports_are_different_and_can_be_bound() -> None:
    claimed = ports.claim_ports(20)

    for port in claimed:
        with socket.socket() as server:
            server.bind((ports.LOOPBACK, port))
    assert len(set(claimed)) == 20


def test_claimed_ports_are_below_the_ephemeral_range() -> None:
    start = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    assert all(port < start for port in ports.claim_ports(20))


def test_a_port_is_claimed_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    port = ports.claim_port()
    monkeypatch.setattr(random, "randint", lambda low, high: port)

    with pytest.raises(ports.NoFreePortError):
        ports.claim_port()


def test_a_port_in_use_is_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind((ports.LOOPBACK, 0))
        monkeypatch.setattr(random, "randint", lambda low, high: server.getsockname()[1])

        with pytest.raises(ports.NoFreePortError):
            ports.claim_port()


def test_listening_is_seen() -> None:
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        heard = ports.is_listening(port)

    assert (heard, ports.is_listening(port)) == (True, False)
