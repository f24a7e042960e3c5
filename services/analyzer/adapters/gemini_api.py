"""Gemini's API by its SDK: calls with our own retries, uploads that are always deleted, errors as ours.

Importing this module imports the SDK, which takes seconds: `app.py` does so only where there is a key.
The SDK's retries are off (`attempts=1`): they ignore what the service asks for, and without that option it waits up
to ten seconds of its own accord after a broken connection.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from time import monotonic
from typing import TypeVar

import aiohttp
import structlog
from google import genai
from google.genai import errors, types
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from analyzer.adapters.clip import Clip
from analyzer.domain.analysis import Usage
from analyzer.domain.gemini.breaker import Breaker
from analyzer.domain.gemini.failures import Kind, judge
from analyzer.domain.gemini.prices import PriceList
from analyzer.workflow import (
    AnswerInvalid,
    ProviderError,
    ProviderMisconfigured,
    ProviderRefused,
    ProviderUnavailable,
)
from shared import metrics

log = structlog.get_logger()

PROVIDER = "gemini"
TRIES = 3
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 16.0
OPERATOR_PAUSE_S = 60.0
"""After a refused key the inbox tries again this late: minutes for somebody to act, instead of seconds."""
FIRST_POLL_S = 0.5
LONGEST_POLL_S = 4.0
DELETE_TIMEOUT_S = 10.0
ANSWER_TOKENS_MAX = 16_384
_MESSAGE_CHARS = 300

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class GeminiOptions:
    """How the API is called; times in seconds. `thinking_level` and `media_resolution` are low, medium or high."""

    model: str
    api_version: str = "v1"
    base_url: str | None = None
    timeout_s: float = 60.0
    file_ready_s: float = 60.0
    inline_max_bytes: int = 14_000_000
    thinking_level: str = "low"
    media_resolution: str | None = None


@dataclass(slots=True)
class Errand:
    """One window's dealings with Gemini: until when (monotonic seconds) it may wait, and what it cost so far."""

    until: float
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class Turn:
    """One text of the conversation; `said_by_model` marks an earlier answer that is given back."""

    texts: tuple[str, ...]
    said_by_model: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; reasons are Gemini's names. `text` is empty where it said nothing."""

    text: str
    finish_reason: str | None
    block_reason: str | None
    model: str


class _NotAsked(ProviderUnavailable):
    """The breaker is open: waiting for it here would only keep a slot from other work."""


class GeminiApi:
    """One per process; `close` it at the end. Keeps its connections and deletions that still run."""

    def __init__(
        self,
        options: GeminiOptions,
        *,
        api_key: str,
        prices: PriceList,
        clock: Callable[[], datetime],
        sleep: Sleep = asyncio.sleep,
        share: Callable[[], float] = random.random,
        breaker: Breaker | None = None,
    ) -> None:
        """`clock` answers aware UTC. `sleep` and `share` (in [0, 1], for jitter) are arguments for tests."""
        logging.getLogger("google_genai").setLevel(logging.WARNING)  # it tells of each call
        self.options = options
        self._key = api_key
        self._prices = prices
        self._clock = clock
        self._sleep = sleep
        self._share = share
        self._breaker = breaker or Breaker()
        self._last_failure = ""
        self._deleting: set[asyncio.Task[None]] = set()
        self._client = genai.Client(
            vertexai=False,
            api_key=api_key,
            http_options=types.HttpOptions(
                base_url=options.base_url,
                api_version=options.api_version,
                timeout=round(options.timeout_s * 1000),
                retry_options=types.HttpRetryOptions(attempts=1),
            ),
        )

    async def close(self) -> None:
        """Wait for deletions that still run, then drop the connections."""
        await asyncio.gather(*self._deleting)
        await self._client.aio.aclose()
        self._client.close()

    def check_in_service(self) -> None:
        """Raises ProviderUnavailable while the model is left alone: a clip for it would be made for nothing."""
        self._wait_elsewhere(self._breaker.rest_s(monotonic()))

    # -- media ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def shown(self, clip: Clip, errand: Errand, *, fps: float | None) -> AsyncIterator[types.Part]:
        """The clip as a part of a request: inline when small, else uploaded, and deleted at the end of the block.

        `fps` is how many pictures a second the model sees; None leaves it to the model.
        Raises the provider's errors of `analyzer.workflow`.
        """
        if clip.size_bytes <= self.options.inline_max_bytes:
            body = await asyncio.to_thread(clip.path.read_bytes)
            yield types.Part(
                inline_data=types.Blob(data=body, mime_type=clip.mime_type), video_metadata=_sampled(fps)
            )
            return
        name = await self._tried(partial(self._once, lambda: self._uploaded(clip)), errand)
        try:
            uri = await self._active(name, errand)
            yield types.Part(
                file_data=types.FileData(file_uri=uri, mime_type=clip.mime_type),
                video_metadata=_sampled(fps),
            )
        finally:
            await self._delete(name)

    async def _uploaded(self, clip: Clip) -> str:
        """Upload under a name of our own, so that also an upload that broke off half-way can be deleted."""
        name = f"tldr-{secrets.token_hex(12)}"
        whole = False
        try:
            await self._client.aio.files.upload(
                file=clip.path, config=types.UploadFileConfig(name=name, mime_type=clip.mime_type)
            )
            whole = True
        finally:
            if not whole:
                await self._delete(name, may_be_absent=True)
        return name

    async def _active(self, name: str, errand: Errand) -> str:
        """The file's URI once it can be used; bounded by `file_ready_s` of waiting."""
        waited_s, pause_s = 0.0, FIRST_POLL_S
        look = partial(self._once, lambda: self._client.aio.files.get(name=name))
        while True:
            file = await self._tried(look, errand)
            if file.state == types.FileState.ACTIVE and file.uri:
                return file.uri
            if file.state == types.FileState.FAILED:
                raise ProviderRefused("Gemini could not process the uploaded clip")
            if waited_s >= self.options.file_ready_s:
                raise ProviderUnavailable(f"the uploaded clip was not ready within {waited_s:g} s")
            await self._sleep(pause_s)
            waited_s, pause_s = waited_s + pause_s, min(pause_s * 2, LONGEST_POLL_S)

    async def _delete(self, name: str, *, may_be_absent: bool = False) -> None:
        """Runs to its end also when the caller is cancelled meanwhile; never fails."""
        task = asyncio.create_task(self._deleted(name, may_be_absent=may_be_absent))
        self._deleting.add(task)
        task.add_done_callback(self._deleting.discard)
        await asyncio.shield(task)

    async def _deleted(self, name: str, *, may_be_absent: bool) -> None:
        try:
            async with asyncio.timeout(DELETE_TIMEOUT_S):
                await self._client.aio.files.delete(name=name)
        except (errors.APIError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            status = error.code if isinstance(error, errors.APIError) else None
            if may_be_absent and status in (403, 404):
                return
            metrics.model_files_left.labels(PROVIDER).inc()
            log.warning("model_file_left", file=name, status=status, reason=type(error).__name__)

    # -- questions -----------------------------------------------------------------------------------

    async def ask(
        self,
        turns: tuple[Turn, ...],
        *,
        video: types.Part,
        system: str,
        schema: dict[str, object],
        errand: Errand,
    ) -> Reply:
        """One answer to the conversation, which begins with the video. Raises the provider's errors."""
        contents: list[types.Content] = []
        for turn in turns:
            parts = [types.Part(text=text) for text in turn.texts]
            role = "model" if turn.said_by_model else "user"
            contents.append(types.Content(role=role, parts=parts if contents else [video, *parts]))
        config = self._config(system, schema)
        question = partial(self._asked, contents, config, errand)
        return await self._tried(partial(self._guarded, question), errand)

    def _config(self, system: str, schema: dict[str, object]) -> types.GenerateContentConfig:
        resolution = self.options.media_resolution
        return types.GenerateContentConfig(
            system_instruction=system,
            response_mime_type="application/json",
            response_json_schema=schema,
            max_output_tokens=ANSWER_TOKENS_MAX,
            thinking_config=types.ThinkingConfig(
                thinking_level=types.ThinkingLevel(self.options.thinking_level.upper())
            ),
            media_resolution=types.MediaResolution(f"MEDIA_RESOLUTION_{resolution.upper()}")
            if resolution
            else None,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            automatic_continuation=False,  # the SDK would go on asking, and paying, without a bound
        )

    async def _asked(
        self, contents: list[types.Content], config: types.GenerateContentConfig, errand: Errand
    ) -> Reply:
        errand.usage += Usage(calls=1)
        response = await self._client.aio.models.generate_content(
            model=self.options.model, contents=list(contents), config=config
        )
        model = response.model_version or self.options.model
        usage = self._priced(response.usage_metadata, model)
        errand.usage += usage
        reply = _reply(response, model)
        _note(reply, usage)
        return reply

    def _priced(self, told: types.GenerateContentResponseUsageMetadata | None, model: str) -> Usage:
        if told is None:
            log.warning("model_tokens_not_told", model=model)
            return Usage(cost_known=False)
        usage = self._prices.priced(_usage(told), models=(model, self.options.model), on=self._clock().date())
        if not usage.cost_known:
            log.warning("model_price_unknown", model=model)
        return usage

    # -- tries ---------------------------------------------------------------------------------------

    async def _tried(self, step: Callable[[], Awaitable[T]], errand: Errand) -> T:
        """Up to `TRIES` times while the errand lasts; a longer wait is left to the inbox, with its hint."""

        def is_over(state: RetryCallState) -> bool:
            return state.attempt_number >= TRIES or monotonic() + state.upcoming_sleep >= errand.until

        retrying = AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            stop=is_over,
            wait=self._pause_s,
            sleep=self._sleep,
            reraise=True,
        )
        return await retrying(step)

    def _pause_s(self, state: RetryCallState) -> float:
        """Full jitter, but never sooner than the service asked."""
        error = state.outcome.exception() if state.outcome else None
        hint_s = error.retry_after_s if isinstance(error, ProviderUnavailable) else None
        ceiling_s = min(FIRST_PAUSE_S * 2.0 ** (state.attempt_number - 1), LONGEST_PAUSE_S)
        return (hint_s or 0.0) + self._share() * ceiling_s

    async def _guarded(self, call: Callable[[], Awaitable[T]]) -> T:
        """One call of the model, unless it fails for everybody; a refusal is an answer like any other."""
        self._wait_elsewhere(self._breaker.wait_s(monotonic()))
        try:
            answer = await self._once(call)
        except ProviderUnavailable as error:
            self._last_failure = str(error)
            self._breaker.failed(monotonic())
            raise
        except ProviderError:
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()
        return answer

    def _wait_elsewhere(self, wait_s: float) -> None:
        if wait_s > 0:
            metrics.model_calls.labels(PROVIDER, "not_made").inc()
            raise _NotAsked(f"not asked, for others failed: {self._last_failure}", retry_after_s=wait_s)

    async def _once(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self.options.timeout_s):
                answer = await call()
        except errors.APIError as error:
            raise self._ours(error) from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            metrics.model_calls.labels(PROVIDER, "unreachable").inc()
            raise ProviderUnavailable(f"Gemini cannot be reached: {type(error).__name__}") from None
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            # What the SDK raises on bodies that are no JSON, or JSON of another shape or depth.
            metrics.model_calls.labels(PROVIDER, "unreadable").inc()
            raise AnswerInvalid(f"Gemini's answer cannot be read: {type(error).__name__}") from None
        metrics.model_calls.labels(PROVIDER, "answered").inc()
        return answer

    def _ours(self, error: errors.APIError) -> ProviderError:
        """Google's own words go to the log alone, without the key, which they may name."""
        status = error.code if isinstance(error.code, int) else 0
        metrics.model_calls.labels(PROVIDER, str(status)).inc()
        headers = getattr(error.response, "headers", None) or {}
        failure = judge(status, error.details, retry_after=headers.get("Retry-After"), now=self._clock())
        message = str(error.message or "").replace(self._key, "***")[:_MESSAGE_CHARS]
        log.warning("model_refused_call", status=status, kind=failure.kind.name, reason=message)
        if failure.kind is Kind.BUSY:
            return ProviderUnavailable(failure.words, retry_after_s=failure.retry_after_s)
        if failure.kind is Kind.OPERATOR:
            return ProviderMisconfigured(failure.words, retry_after_s=OPERATOR_PAUSE_S)
        return ProviderRefused(failure.words)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ProviderUnavailable) and not isinstance(error, _NotAsked)


def _sampled(fps: float | None) -> types.VideoMetadata | None:
    return None if fps is None else types.VideoMetadata(fps=fps)


def _reply(response: types.GenerateContentResponse, model: str) -> Reply:
    """Thoughts are no answer, so their parts are left out."""
    candidate = response.candidates[0] if response.candidates else None
    parts = (candidate.content.parts if candidate and candidate.content else None) or []
    feedback = response.prompt_feedback
    return Reply(
        text="".join(part.text for part in parts if part.text and not part.thought),
        finish_reason=_name(candidate.finish_reason if candidate else None),
        block_reason=_name(feedback.block_reason if feedback else None),
        model=model,
    )


def _name(reason: types.FinishReason | types.BlockedReason | None) -> str | None:
    return None if reason is None else str(reason.value)


def _usage(told: types.GenerateContentResponseUsageMetadata) -> Usage:
    thoughts = told.thoughts_token_count or 0
    by_modality = {
        str(each.modality.value): each.token_count or 0
        for each in told.prompt_tokens_details or ()
        if each.modality is not None
    }
    return Usage(
        input_tokens=told.prompt_token_count or 0,
        output_tokens=(told.candidates_token_count or 0) + thoughts,
        thoughts_tokens=thoughts,
        input_by_modality=tuple(sorted(by_modality.items())),
    )


def _note(reply: Reply, usage: Usage) -> None:
    metrics.model_tokens.labels(PROVIDER, "input").inc(usage.input_tokens)
    metrics.model_tokens.labels(PROVIDER, "output").inc(usage.output_tokens)
    metrics.model_cost.labels(PROVIDER).inc(usage.cost_microusd)
    log.info(
        "model_answered",
        model=reply.model,
        finish_reason=reply.finish_reason,
        block_reason=reply.block_reason,
        size_in=usage.input_tokens,
        size_out=usage.output_tokens,
        cost_microusd=usage.cost_microusd if usage.cost_known else None,
    )
