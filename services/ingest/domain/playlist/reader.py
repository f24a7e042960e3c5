"""Text in, playlist out; of a long list that is reloaded only what may be new is looked at again."""

from dataclasses import replace

from ingest.domain.playlist.checkpoint import Checkpoint, head_of
from ingest.domain.playlist.errors import NotAPlaylist, PlaylistTooLarge
from ingest.domain.playlist.limits import PlaylistLimits
from ingest.domain.playlist.media import MediaReader
from ingest.domain.playlist.multivariant import MultivariantReader
from ingest.domain.playlist.values import MediaPlaylist, MultivariantPlaylist


def parse_playlist(
    text: str, *, url: str, from_sequence: int = 0, limits: PlaylistLimits | None = None
) -> MediaPlaylist | MultivariantPlaylist:
    """Parse a body fetched from `url` (the final address after redirects, which relative URIs refer to).

    Segments below `from_sequence` are counted but not built, so that reading a long EVENT playlist again
    costs little; when the list ends below it (a reset), all are built. Raises NotAPlaylist or PlaylistTooLarge.
    """
    return PlaylistReader(limits=limits).read(text, url=url, from_sequence=from_sequence)


class PlaylistReader:
    """Reads the reloads of one list: in a long one, what an earlier reload proved is not even looked at again.

    It remembers one place (some hundred characters of text, and what holds there), so memory does not grow.
    """

    def __init__(self, *, limits: PlaylistLimits | None = None) -> None:
        self._limits = limits or PlaylistLimits()
        self._checkpoint: Checkpoint | None = None

    def read(self, text: str, *, url: str, from_sequence: int = 0) -> MediaPlaylist | MultivariantPlaylist:
        """As `parse_playlist`, with the same errors."""
        _check_head(text, url=url, limits=self._limits)
        return self._resumed(text, url, from_sequence) or self._read_whole(text, url, from_sequence)

    def _read_whole(self, text: str, url: str, from_sequence: int) -> MediaPlaylist | MultivariantPlaylist:
        self._checkpoint = None
        if "#EXT-X-STREAM-INF:" in text:
            return MultivariantReader(url, self._limits).read(text)
        if "#EXT-X-TARGETDURATION" not in text:
            raise NotAPlaylist(f"neither TARGETDURATION nor STREAM-INF in the playlist at {url}")
        reader = MediaReader(url, self._limits, from_sequence)
        parsed = reader.read(text)
        if parsed.segments or not parsed.listed_count:
            self._checkpoint = reader.checkpoint
            return parsed
        return MediaReader(url, self._limits, 0).read(text)

    def _resumed(self, text: str, url: str, from_sequence: int) -> MediaPlaylist | None:
        """The list from the checkpoint on, as far as it is still the same list up to there; else None."""
        known = self._checkpoint
        if known is None or known.url != url or known.sequence > from_sequence:
            return None
        head = head_of(text)
        at = known.found_in(text, head)
        if at is None:
            return None
        reader = MediaReader(url, self._limits, from_sequence)
        parsed = reader.read_from(known, text, head=head, at=at)
        if not parsed.segments:
            return None
        self._checkpoint = reader.checkpoint or replace(known, head=head, end=at)
        return parsed


def _check_head(text: str, *, url: str, limits: PlaylistLimits) -> None:
    if len(text) > limits.size_characters:
        raise PlaylistTooLarge(
            f"playlist at {url} has {len(text)} characters, more than {limits.size_characters}"
        )
    if text.count("\n") > limits.lines:
        raise PlaylistTooLarge(f"playlist at {url} has more than {limits.lines} lines")
    if not text[:4096].lstrip("\ufeff \t\r\n").startswith("#EXTM3U"):
        raise NotAPlaylist(f"body at {url} does not begin with #EXTM3U")
