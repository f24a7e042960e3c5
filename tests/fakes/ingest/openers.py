"""What opens the sources of tests: HLS over whatever client the test has."""

from collections.abc import Mapping

from ingest.domain.freshness import freshness_of
from ingest.domain.recorder import Followed, Progress
from ingest.workflow.ports import Http, MediaSource, OpenSource, SourceAddress
from ingest.workflow.source import HlsSource


def hls_openers(http: Http, *, target_height: int = 720) -> Mapping[str, OpenSource]:
    def hls(stream: Followed, address: SourceAddress, progress: Progress) -> MediaSource:
        return HlsSource(
            http,
            address.url,
            headers=address.headers,
            target_height=target_height,
            freshness=freshness_of(stream.source, address.url, is_joined=progress.cursor.joined),
        )

    return {"hls": hls}
