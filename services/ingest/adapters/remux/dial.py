"""Connections to addresses that a customer gave, for protocols other than HTTP: resolved here, judged, then dialled."""

import asyncio
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from functools import cache
from typing import Final

from aiohttp.abc import AbstractResolver

from ingest.domain.actions import FailureKind, FetchFailure
from ingest.workflow.ports import FetchFailed
from shared.addresses import BlockedAddress, HostPort, IpAddress, check_address
from shared.http_client import threadless_resolver

CONNECT_S: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Dialler:
    """`allowed` may be reached although it is not public; `resolver` and `tls` are for tests."""

    allowed: frozenset[HostPort]
    resolver: AbstractResolver | None = None
    tls: ssl.SSLContext | None = None

    async def addresses(self, target: HostPort) -> tuple[str, ...]:
        """The addresses of the target, every one judged. Raises FetchFailed when none may be dialled."""
        found = await self._resolved(target)
        try:
            for ip in found:
                check_address(ip, port=target.port, allowed=self.allowed, host=target.host)
        except BlockedAddress as error:
            raise _failed(FailureKind.REFUSED, str(error)) from error
        return tuple(str(ip) for ip in found)

    async def connect(
        self, target: HostPort, *, is_tls: bool
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the first address that answers. Raises FetchFailed."""
        reason = "no address"
        for address in await self.addresses(target):
            try:
                async with asyncio.timeout(CONNECT_S):
                    return await self._open(address, target, is_tls=is_tls)
            except ssl.SSLCertVerificationError as error:
                raise _failed(
                    FailureKind.REFUSED, f"its certificate is not good: {error.verify_message}"
                ) from error
            except (OSError, TimeoutError) as error:
                reason = _reason(error)
        raise _failed(FailureKind.NETWORK, reason)

    async def _open(
        self, address: str, target: HostPort, *, is_tls: bool
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The certificate is checked against the name, although the address is dialled."""
        if not is_tls:
            return await asyncio.open_connection(address, target.port)
        context = self.tls or _public_authorities()
        return await asyncio.open_connection(address, target.port, ssl=context, server_hostname=target.host)

    async def _resolved(self, target: HostPort) -> tuple[IpAddress, ...]:
        try:
            return (ipaddress.ip_address(target.host),)
        except ValueError:
            pass
        resolver = self.resolver or threadless_resolver()
        try:
            found = await resolver.resolve(target.host, target.port, family=socket.AF_UNSPEC)
        except OSError as error:
            raise _failed(FailureKind.NETWORK, f"the name {target.host} does not resolve") from error
        finally:
            if resolver is not self.resolver:
                await resolver.close()
        return tuple(ipaddress.ip_address(each["host"]) for each in found)


def _reason(error: OSError) -> str:
    """Without the address that was dialled, which asyncio puts into its messages."""
    if isinstance(error, ssl.SSLError):
        return f"TLS fails: {(error.reason or 'no reason given').lower().replace('_', ' ')}"
    return os.strerror(error.errno).lower() if error.errno else "no answer in time"


@cache
def _public_authorities() -> ssl.SSLContext:
    """Made once: reading them takes tens of milliseconds, and a server that is away is dialled every few seconds."""
    return ssl.create_default_context()


def _failed(kind: FailureKind, detail: str) -> FetchFailed:
    return FetchFailed(FetchFailure(kind=kind, detail=detail))
