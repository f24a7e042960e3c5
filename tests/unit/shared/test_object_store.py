from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.object_store import (
    FolderObjectStore,
    KeyInvalid,
    check_key,
    content_type_of,
    sign,
    verify_signature,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("key", ["a", "archive/s/0/00001-ab.ts", "profiles/0f.json", "a/b=c/d_e-f.mp4"])
def test_a_readable_relative_path_is_a_key(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        ".hidden",
        "a/.tmp",
        "a\\b",
        "a\x00b",
        "a\nb",
        "é",
        "a%2e",
        "a?b",
        "a#b",
        "a b",
        "x" * 1025,
    ],
)
def test_anything_else_is_not_a_key(key: str) -> None:
    with pytest.raises(KeyInvalid):
        check_key(key)


@given(st.text(max_size=40))
def test_a_key_never_leads_out_of_the_root(text: str) -> None:
    try:
        key = check_key(text)
    except KeyInvalid:
        return
    assert (Path("/root-folder") / key).resolve().is_relative_to("/root-folder")


def test_a_signature_opens_its_key_until_it_expires() -> None:
    expires = int(NOW.timestamp()) + 60
    signature = sign("a/b.mp4", expires=expires, secret="s")

    def opens(
        key: str = "a/b.mp4", until: int = expires, text: str = signature, secret: str = "s", after_s: int = 0
    ) -> bool:
        return verify_signature(key, until, text, secret=secret, now=NOW + timedelta(seconds=after_s))

    assert opens()
    assert not opens(after_s=60)
    assert not opens(key="a/c.mp4")
    assert not opens(until=expires + 1)
    assert not opens(text=signature[:-1] + "g")
    assert not opens(text="ü")
    assert not opens(secret="other")


async def test_a_signed_url_carries_what_the_gateway_verifies() -> None:
    store = FolderObjectStore(
        Path("unused"), public_base_url="https://api.example/", signing_secret="s", clock=lambda: NOW
    )
    url = urlsplit(await store.signed_url("clips/a+b.mp4", expires_s=60))
    query = parse_qs(url.query)
    assert f"{url.scheme}://{url.netloc}{url.path}" == "https://api.example/objects/clips/a%2Bb.mp4"
    expires, signature = int(query["expires"][0]), query["signature"][0]
    assert expires == int(NOW.timestamp()) + 60
    assert verify_signature("clips/a+b.mp4", expires, signature, secret="s", now=NOW)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a.ts", "video/mp2t"),
        ("a.mp4", "video/mp4"),
        ("a.m3u8", "application/vnd.apple.mpegurl"),
        ("a.jpg", "image/jpeg"),
        ("a", "application/octet-stream"),
    ],
)
def test_the_content_type_is_known_by_the_extension(key: str, expected: str) -> None:
    assert content_type_of(key) == expected
