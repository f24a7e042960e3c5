"""The Gemini double as a customer uses it: with Google's own SDK, over plain HTTP, and from the command line."""

import base64
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from google import genai
from google.genai import errors, types

from sandbox.film import make_film
from sandbox.gemini import GeminiDouble, HangUp, Raw, Refuse, Say, Slow
from sandbox.gemini_answers import answer_from_signals, duration_s, has_sound
from sandbox.gemini_request import Asked, read_request

MODEL = "gemini-3.8-flash"


@asynccontextmanager
async def client_of(double: GeminiDouble, **options: Any) -> AsyncIterator[Any]:
    http = types.HttpOptions(
        base_url=double.base_url, retry_options=types.HttpRetryOptions(attempts=1), **options
    )
    client = genai.Client(vertexai=False, api_key="k", http_options=http)
    try:
        yield client.aio
    finally:
        await client.aio.aclose()
        client.close()


@pytest.fixture(scope="module")
async def double() -> AsyncIterator[GeminiDouble]:
    async with GeminiDouble(answer=lambda asked: f"heard: {asked.texts[-1]}") as made:
        yield made


@pytest.fixture(scope="module")
async def client(double: GeminiDouble) -> AsyncIterator[Any]:
    async with client_of(double) as made:
        yield made


@pytest.fixture(autouse=True)
def forgetful(double: GeminiDouble) -> None:
    for memory in (double.calls, double.files, double.deleted, double.always):
        memory.clear()
    double.fails_processing = False


async def test_it_answers_by_the_given_function_and_counts_tokens(double: GeminiDouble, client: Any) -> None:
    response = await client.models.generate_content(model=MODEL, contents="hello")

    assert "heard: hello" == response.text
    assert types.FinishReason.STOP == response.candidates[0].finish_reason
    assert MODEL == response.model_version
    assert response.usage_metadata.total_token_count > response.usage_metadata.prompt_token_count > 0
    assert [("v1", "k")] == [(call.version, call.key) for call in double.calls]


async def test_of_many_questions_only_the_latest_keep_their_videos(
    double: GeminiDouble, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.gemini.VIDEOS_KEPT", 2)
    monkeypatch.setattr("sandbox.gemini.CALLS_KEPT", 4)
    for at in range(6):
        await client.models.generate_content(
            model=MODEL, contents=[types.Part.from_bytes(data=b"film", mime_type="video/mp4"), f"{at}"]
        )

    assert [("2", None), ("3", None), ("4", b"film"), ("5", b"film")] == [
        (asked.texts[-1], asked.video) for asked in double.asked
    ]


async def test_a_file_is_uploaded_processed_used_and_deleted(double: GeminiDouble, client: Any) -> None:
    body = bytes(range(256)) * 40_000

    file = await client.files.upload(file=BytesIO(body), config={"mime_type": "video/mp4", "name": "mine"})
    first = await client.files.get(name=file.name)
    second = await client.files.get(name=file.name)
    part = types.Part(file_data=types.FileData(file_uri=file.uri, mime_type="video/mp4"))
    await client.models.generate_content(model=MODEL, contents=[part, "what is this?"])
    await client.files.delete(name=file.name)

    assert (types.FileState.PROCESSING, types.FileState.ACTIVE) == (first.state, second.state)
    assert 2 == len(double.called("upload"))
    assert (body, "mine") == (double.asked[0].video, double.asked[0].file_name)
    assert ["mine"] == double.deleted
    with pytest.raises(errors.ClientError, match="403"):
        await client.files.get(name=file.name)


async def test_a_file_that_is_not_ready_cannot_be_used(double: GeminiDouble, client: Any) -> None:
    file = await client.files.upload(file=BytesIO(b"x"), config={"mime_type": "video/mp4"})
    part = types.Part(file_data=types.FileData(file_uri=file.uri, mime_type="video/mp4"))

    with pytest.raises(errors.ClientError, match="not in an ACTIVE state"):
        await client.models.generate_content(model=MODEL, contents=[part, "what is this?"])


async def test_processing_can_fail(double: GeminiDouble, client: Any) -> None:
    double.fails_processing = True
    file = await client.files.upload(file=BytesIO(b"x"), config={"mime_type": "video/mp4"})

    states = [(await client.files.get(name=file.name)).state for _ in range(2)]

    assert [types.FileState.PROCESSING, types.FileState.FAILED] == states


async def test_scripted_errors_bring_their_hints_and_then_the_script_is_over(
    double: GeminiDouble, client: Any
) -> None:
    double.script["generate"].append(Refuse(429, "RESOURCE_EXHAUSTED", retry_after="7", retry_delay="9s"))

    with pytest.raises(errors.ClientError) as raised:
        await client.models.generate_content(model=MODEL, contents="a")
    response = await client.models.generate_content(model=MODEL, contents="b")

    assert (429, "RESOURCE_EXHAUSTED") == (raised.value.code, raised.value.status)
    assert "7" == raised.value.response.headers["Retry-After"]
    assert "9s" == raised.value.details["error"]["details"][0]["retryDelay"]
    assert "heard: b" == response.text


async def test_a_connection_can_break_a_body_be_garbage_and_an_answer_late(
    double: GeminiDouble, client: Any
) -> None:
    double.script["generate"].extend([HangUp(), Raw(b"garbage"), Slow(0.0, Say("late", "MAX_TOKENS"))])

    with pytest.raises(aiohttp.ClientError):
        await client.models.generate_content(model=MODEL, contents="a")
    with pytest.raises(ValueError, match="Expecting value"):
        await client.models.generate_content(model=MODEL, contents="a")
    late = await client.models.generate_content(model=MODEL, contents="a")

    assert ("late", types.FinishReason.MAX_TOKENS) == (late.text, late.candidates[0].finish_reason)


async def test_the_other_version_of_the_api_is_served_too(double: GeminiDouble) -> None:
    async with client_of(double, api_version="v1beta") as client:
        await client.models.generate_content(model=MODEL, contents="a")

    assert ["v1beta"] == [call.version for call in double.calls]


async def test_only_known_keys_are_served_where_keys_are_given() -> None:
    async with GeminiDouble(keys={"another"}) as strict, client_of(strict) as client:
        with pytest.raises(errors.ClientError) as raised:
            await client.models.generate_content(model=MODEL, contents="a")

    assert 400 == raised.value.code
    assert "API_KEY_INVALID" == raised.value.details["error"]["details"][0]["reason"]


async def test_what_is_no_method_of_the_api_is_not_found(double: GeminiDouble) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{double.base_url}/v1/elsewhere") as answer:
        assert 404 == answer.status


@pytest.mark.parametrize("camel", [True, False])
def test_keys_are_understood_in_both_ways_of_writing(camel: bool) -> None:
    data = base64.b64encode(b"video").decode()
    if camel:
        part = {"inlineData": {"data": data, "mimeType": "video/mp4"}, "videoMetadata": {"fps": 2}}
        config = {"responseJsonSchema": {"type": "object"}}
        body = {"contents": [{"parts": [part, {"text": "t"}]}], "generationConfig": config}
        body["systemInstruction"] = {"parts": [{"text": "s"}]}
    else:
        part = {"inline_data": {"data": data, "mime_type": "video/mp4"}, "video_metadata": {"fps": 2}}
        config = {"response_json_schema": {"type": "object"}}
        body = {"contents": [{"parts": [part, {"text": "t"}]}], "generation_config": config}
        body["system_instruction"] = {"parts": [{"text": "s"}]}

    asked = read_request(body, model=MODEL, files={})

    assert (b"video", "video/mp4", 2, "s", ("t",)) == (
        asked.video, asked.mime_type, asked.fps, asked.system, asked.texts,
    )  # fmt: skip
    assert {"type": "object"} == asked.schema


def asked_without_schema(video: bytes | None) -> Asked:
    return Asked(MODEL, "", (), (), video, "", None, None, {}, {})


async def test_without_a_schema_that_it_knows_it_answers_an_empty_object() -> None:
    assert "{}" == await answer_from_signals(asked_without_schema(b"x"))


@pytest.mark.needs_ffmpeg
def test_length_and_sound_are_read_from_the_file_itself(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", duration_s=3)
    mute = tmp_path / "mute.mp4"
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(film), "-an", "-c", "copy", str(mute)], check=True)

    assert 3.0 == pytest.approx(duration_s(film.read_bytes()), abs=0.1)
    assert (True, False) == (has_sound(film.read_bytes()), has_sound(mute.read_bytes()))
    assert (0.0, False) == (duration_s(b"no film"), has_sound(None))


def test_the_program_prints_its_url_first_and_ends_on_interrupt() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "sandbox.gemini", "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=20)

    assert url.startswith("http://127.0.0.1:")
    assert 0 == status
