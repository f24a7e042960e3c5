"""A program of its own that asks streamlink where a page's HLS is; ingest starts it, and imports nothing of it.

One JSON object on stdin (`url`), one on stdout: `hls`, or `failure` with `detail`. Only pages of Twitch and YouTube:
streamlink's requests know nothing of our address checks, so no other host may be given to it.
"""

import json
import re
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

HOSTS = frozenset({"www.twitch.tv", "www.youtube.com"})
PLUGINS = frozenset({"twitch", "youtube"})
REQUEST_WITHIN_S = 8.0
MAX_INPUT = 8192
MAX_DETAIL = 300
QUERY = re.compile(r"\?[^\s'\")]+")


def resolve(url: str) -> dict[str, str]:
    """What is printed. streamlink is imported here, so that its absence can be told."""
    if urlsplit(url).hostname not in HOSTS or urlsplit(url).scheme != "https":
        return _failure("refused", "this is no page that is resolved here")
    try:
        from streamlink import Streamlink  # noqa: PLC0415
        from streamlink.exceptions import FatalPluginError, NoPluginError, StreamlinkError  # noqa: PLC0415
    except ImportError:
        return _failure("missing", "the package streamlink is not installed")
    # Never a browser: what needs one is told as a failure.
    session = Streamlink({"http-timeout": REQUEST_WITHIN_S, "webbrowser": False})
    session.http.trust_env = False
    try:
        name, plugin, page = session.resolve_url(url, follow_redirect=False)
        if name not in PLUGINS:
            return _failure("refused", f"streamlink takes it for a page of {name}")
        return found_in(plugin(session, page).streams())
    except (NoPluginError, FatalPluginError) as error:
        return _failure("refused", str(error))
    except (StreamlinkError, OSError) as error:
        return _failure("failed", str(error))


def found_in(streams: Mapping[str, Any]) -> dict[str, str]:
    """The multivariant playlist where there is one, for which variant is taken is ingest's to decide."""
    from streamlink.stream.hls import HLSStream, MuxedHLSStream  # noqa: PLC0415

    if not streams:
        return _failure("offline", "the page has nothing to play now")
    playable = [stream for stream in streams.values() if isinstance(stream, HLSStream | MuxedHLSStream)]
    for stream in playable:
        if stream.multivariant is not None and stream.multivariant.uri:
            return {"hls": str(stream.to_manifest_url())}
    best = streams.get("best")
    if isinstance(best, HLSStream):
        return {"hls": str(best.url)}
    return _failure(
        "refused", "the page offers no HLS: only what is live, or was live on Twitch, can be followed"
    )


def _failure(kind: str, detail: str) -> dict[str, str]:
    """streamlink's words hold whole addresses, and their queries hold tokens."""
    return {"failure": kind, "detail": QUERY.sub("?…", detail)[:MAX_DETAIL]}


def main() -> None:
    asked = json.loads(sys.stdin.read(MAX_INPUT))
    print(json.dumps(resolve(str(asked["url"]))))  # noqa: T201 - stdout is how it answers


if __name__ == "__main__":
    main()
