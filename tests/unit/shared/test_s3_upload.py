"""What is checked of an upload: the server's ETag, where it is one."""

import hashlib

import pytest

from shared.object_store import StoreUnavailable
from shared.s3_upload import check_etag, digests_of

DIGESTS = digests_of(b"body")
MD5 = hashlib.md5(b"body", usedforsecurity=False).hexdigest()


def test_digests_are_those_of_the_body() -> None:
    assert (MD5, hashlib.sha256(b"body").hexdigest()) == (DIGESTS.md5.hex(), DIGESTS.sha256)
    assert "hBotaJrYa9FhFEdFPCLG/A==" == DIGESTS.md5_base64


@pytest.mark.parametrize(
    "answer",
    [
        {"ETag": f'"{MD5}"'},
        {"ETag": MD5.upper()},
        {"ETag": f'"{MD5}"', "ServerSideEncryption": "AES256"},
        {"ETag": '"0123"', "ServerSideEncryption": "aws:kms"},
        {"ETag": '"0123"', "ServerSideEncryption": "aws:kms:dsse"},
        {"ETag": '"0123"', "SSECustomerAlgorithm": "AES256"},
        {},
    ],
)
def test_an_etag_that_is_the_md5_or_cannot_be_is_fine(answer: dict[str, str]) -> None:
    check_etag(answer, DIGESTS, subject="a")


@pytest.mark.parametrize("answer", [{"ETag": '"0123"'}, {"ETag": "x", "ServerSideEncryption": "AES256"}])
def test_another_etag_means_that_other_bytes_were_stored(answer: dict[str, str]) -> None:
    with pytest.raises(StoreUnavailable, match="object a was not stored as it was sent"):
        check_etag(answer, DIGESTS, subject="a")
