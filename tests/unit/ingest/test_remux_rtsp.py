"""The relay's part in RTSP: addresses, logins, redirections, and frames between messages."""

import pytest

from ingest.domain.rtsp import Credentials, RtspMalformed, RtspRefused, RtspRewrite

LOGIN = Credentials(user="Mufasa", password="Circle Of Life", nonce="0a4f113b")
ADDRESS = "rtsp://camera.example:554"
REQUEST = b"DESCRIBE rtsp://127.0.0.1:8554/live RTSP/1.0\r\nCSeq: 2\r\n\r\n"
DIGEST = b'RTSP/1.0 401 Unauthorized\r\nCSeq: 2\r\nWWW-Authenticate: Digest realm="r", nonce="n", qop="auth"\r\n\r\n'
BASIC = b'RTSP/1.0 401 Unauthorized\r\nCSeq: 2\r\nWWW-Authenticate: Basic realm="r"\r\n\r\n'


def test_requests_name_the_server_itself() -> None:
    sent = RtspRewrite(ADDRESS, credentials=None).to_server(REQUEST)
    assert sent.startswith(b"DESCRIBE rtsp://camera.example:554/live RTSP/1.0\r\n")


def test_messages_may_come_in_any_pieces() -> None:
    rewrite = RtspRewrite(ADDRESS, credentials=None)
    sent = b"".join(rewrite.to_server(REQUEST[n : n + 1]) for n in range(len(REQUEST)))
    assert RtspRewrite(ADDRESS, credentials=None).to_server(REQUEST) == sent


@pytest.mark.parametrize(("challenge", "scheme"), [(DIGEST, b"Digest username="), (BASIC, b"Basic TXVm")])
def test_a_challenge_is_answered_here_and_ffmpeg_hears_nothing(challenge: bytes, scheme: bytes) -> None:
    rewrite = RtspRewrite(ADDRESS, credentials=LOGIN)
    rewrite.to_server(REQUEST)
    onwards, back = rewrite.to_ffmpeg(challenge)
    assert b"" == onwards
    assert b"\r\nAuthorization: " + scheme in back
    assert scheme in rewrite.to_server(REQUEST.replace(b"DESCRIBE", b"SETUP"))


def test_a_login_that_is_refused_twice_is_told() -> None:
    rewrite = RtspRewrite(ADDRESS, credentials=LOGIN)
    rewrite.to_server(REQUEST)
    rewrite.to_ffmpeg(BASIC)
    with pytest.raises(RtspRefused, match="401"):
        rewrite.to_ffmpeg(BASIC)


def test_a_redirection_is_refused() -> None:
    with pytest.raises(RtspRefused, match="redirects"):
        RtspRewrite(ADDRESS, credentials=None).to_ffmpeg(b"RTSP/1.0 302 Moved\r\nLocation: rtsp://x/\r\n\r\n")


MOVED = b"RTSP/1.0 302 Moved\r\nLocation: rtsp://x/\r\n\r\n"


@pytest.mark.parametrize(
    "disguised",
    [
        MOVED.replace(b"1.0 302", b"1.0  302"),
        MOVED.replace(b"1.0 302", b"1.0\t302"),
        b" " + MOVED,
        b"\r\n" + MOVED,
        b"RTSP/1.0 200 OK\n\n" + MOVED,
        b"RTSP/1.0 200 OK\r\nCSeq: 1\n\n" + MOVED,
        b"RTSP/1.0 200 OK\r\n$\0\0\2ab\r\n\r\n" + MOVED,
        b"RTSP/1.0 200 OK\r\nContent-Length: 9\r\nContent-Length: 0\r\n\r\n" + MOVED,
        b"RTSP/1.0 200 OK\r\nContent-Length: +47\r\n\r\n" + MOVED,
        b"RTSP/1.0 200 OK\r\nContent-Length: 10000000\r\n\r\n" + MOVED,
    ],
)
def test_no_redirection_in_disguise_reaches_ffmpeg(disguised: bytes) -> None:
    with pytest.raises((RtspRefused, RtspMalformed)):
        RtspRewrite(ADDRESS, credentials=None).to_ffmpeg(disguised)


def test_a_request_of_the_server_goes_on() -> None:
    request = b"GET_PARAMETER rtsp://camera.example/live RTSP/1.0\r\nCSeq: 1\r\n\r\n"
    assert (request, b"") == RtspRewrite(ADDRESS, credentials=None).to_ffmpeg(request)


def test_frames_between_messages_go_on_as_they_are() -> None:
    frame = b"$\x00\x00\x05RTSP/"
    reply = b"RTSP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    assert (frame + reply + frame, b"") == RtspRewrite(ADDRESS, credentials=None).to_ffmpeg(
        frame + reply + frame
    )


def test_a_message_without_an_end_is_refused() -> None:
    with pytest.raises(RtspMalformed):
        RtspRewrite(ADDRESS, credentials=None).to_ffmpeg(b"R" * 300_000)
