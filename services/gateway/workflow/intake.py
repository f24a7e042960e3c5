"""What every new stream goes through, whoever announced it: source, profile, row, endpoint, `stream.online`."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from json import dumps
from typing import Any, Protocol

import structlog

from gateway.domain.endpoint import DEFAULT_TYPES, check_endpoint_url, sealing_context
from gateway.domain.profile_resolution import resolve
from gateway.domain.reachability import NOTHING_FOUND, Findings
from gateway.domain.source import (
    WHOLE_FILES,
    Platform,
    SourceAddress,
    check_headers,
    display_form,
    read_source,
)
from gateway.domain.stream_options import StreamOptions
from gateway.domain.submission import NewEndpoint, NewStream, endpoint_changed, stream_online
from gateway.workflow.accounts import Entropy, signing_context
from shared import keys
from shared.addresses import HostPort
from shared.clock import Clock
from shared.events import Event, Lane
from shared.ids import ConnectionId, EndpointId, OrganizationId, StreamId, random_id
from shared.keyring import Keyring
from shared.object_store import ObjectDiffers, ObjectStore
from shared.profile import Profile

log = structlog.get_logger()

_REMEMBERED_PROFILES = 1000


@dataclass(frozen=True, kw_only=True)
class StreamRequest:
    """What a customer, or 100ms in a customer's name, wants to be followed."""

    source_url: str
    options: StreamOptions
    platform: Platform | None = None
    title: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    live: bool = True
    connection_id: ConnectionId | None = None
    external_id: str | None = None
    source_started_at: datetime | None = None


class IntakeTables(Protocol):
    """The part of a transaction that a new stream needs."""

    async def add_stream(self, stream: NewStream) -> bool:
        """False when the connection has a stream of this external id already."""
        ...

    async def add_endpoint(self, endpoint: NewEndpoint) -> None: ...
    async def signing_secret(self) -> str:
        """The organization's webhook secret, sealed."""
        ...

    async def emit(self, *events: Event) -> None: ...


class Intake:
    def __init__(
        self,
        *,
        store: ObjectStore,
        basis: Profile,
        keyring: Keyring,
        clock: Clock,
        entropy: Entropy,
        allowed: frozenset[HostPort],
        start_deadline_s: float,
    ) -> None:
        self._store = store
        self._basis = basis
        self._keyring = keyring
        self._clock = clock
        self._entropy = entropy
        self._allowed = allowed
        self._start_deadline = timedelta(seconds=start_deadline_s)
        self._stored_profiles: set[str] = set()

    def admit(self, request: StreamRequest) -> SourceAddress:
        """The request's source, when all that can be judged without asking anybody is right. Raises Unacceptable."""
        source = read_source(request.source_url, allowed=self._allowed)
        check_headers(request.options.headers(), source=source)
        if request.options.webhook_url is not None:
            check_endpoint_url(
                request.options.webhook_url, allowed=self._allowed, field="options.webhook_url"
            )
        return source

    async def prepare(
        self, request: StreamRequest, *, organization_id: OrganizationId, findings: Findings = NOTHING_FOUND
    ) -> NewStream:
        """The row to be written. The profile's object is stored when this returns. Raises Unacceptable."""
        source = self.admit(request)
        headers = request.options.headers()
        kind = findings.kind or source.kind
        is_recording = source.is_recording or kind in WHOLE_FILES
        channel = findings.channel
        stream_id = StreamId(random_id("str", self._entropy(6)))
        now = self._clock()
        return NewStream(
            stream_id=stream_id,
            organization_id=organization_id,
            lane=Lane.LIVE if request.live and not is_recording else Lane.VOD,
            platform=request.platform or source.platform,
            sealed_source_url=self._seal(source.url, stream_id),
            display_url=source.display_url,
            sealed_headers=self._seal(dumps(headers), stream_id) if headers else None,
            title=request.title if request.title is not None else (channel and channel.title) or None,
            options=request.options.effective(),
            metadata={**(request.options.metadata or {}), **request.metadata},
            profile_key=await self._store_profile(resolve(self._basis, options=request.options)),
            created_at=now,
            deadline_at=now + self._start_deadline,
            connection_id=request.connection_id,
            external_id=request.external_id,
            source_started_at=request.source_started_at or (channel.started_at if channel else None),
            source_kind=kind,
            source_check=findings.check,
            channel_name=channel.name if channel else (source.page.channel if source.page else ""),
            game_name=channel.game_name if channel else "",
        )

    async def write(self, tables: IntakeTables, stream: NewStream, *, options: StreamOptions) -> bool:
        """Stream, endpoint and events in the caller's transaction; False when the stream is there already."""
        if not await tables.add_stream(stream):
            return False
        if options.webhook_url is not None:
            endpoint = self._stream_endpoint(stream, options.webhook_url, await tables.signing_secret())
            await tables.add_endpoint(endpoint)
            await tables.emit(endpoint_changed(endpoint, at=stream.created_at))
        await tables.emit(stream_online(stream))
        return True

    def _seal(self, plain: str, stream_id: StreamId) -> str:
        return self._keyring.encrypt(plain, context=f"stream:{stream_id}")

    def _stream_endpoint(self, stream: NewStream, url: str, sealed_signing_secret: str) -> NewEndpoint:
        endpoint_id = EndpointId(random_id("whk", self._entropy(6)))
        context = sealing_context(endpoint_id)
        secret = self._keyring.decrypt(sealed_signing_secret, context=signing_context(stream.organization_id))
        return NewEndpoint(
            endpoint_id=endpoint_id,
            organization_id=stream.organization_id,
            sealed_url=self._keyring.encrypt(url, context=context),
            display_url=display_form(url),
            sealed_secrets=(self._keyring.encrypt(secret, context=context),),
            event_types=DEFAULT_TYPES,
            created_at=stream.created_at,
            description="options.webhook_url",
            stream_id=stream.stream_id,
        )

    async def _store_profile(self, profile: Profile) -> str:
        """The profile's key. Objects under a content hash never change, so one write by this process is enough."""
        key = keys.profile(profile.sha256())
        if key not in self._stored_profiles:
            await self._store_once(key, profile.canonical_bytes())
            if len(self._stored_profiles) >= _REMEMBERED_PROFILES:
                self._stored_profiles.clear()
            self._stored_profiles.add(key)
        return key

    async def _store_once(self, key: str, body: bytes) -> None:
        """Other bytes there do not match the hash that is their key: damage, which the profile in hand repairs."""
        try:
            await self._store.put_once(key, body)
        except ObjectDiffers:
            log.warning("profile_object_differs", key=key)
            await self._store.put(key, body)
