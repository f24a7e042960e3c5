"""The lines of a multivariant playlist into variants and renditions, and which variant to follow."""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from ingest.domain.playlist.addresses import Resolver
from ingest.domain.playlist.attributes import Faults, parse_attributes, whole_number
from ingest.domain.playlist.errors import NotAPlaylist, NoUsableVariant
from ingest.domain.playlist.limits import PlaylistLimits
from ingest.domain.playlist.values import Location, MultivariantPlaylist, Rendition, Variant


def choose_variant(
    playlist: MultivariantPlaylist, *, target_height: int = 720, excluding: Collection[str] = ()
) -> Variant:
    """The best variant of at most `target_height` lines, else the nearest above it.

    Variants without a resolution count only when none has one: then the best by bandwidth. Names in
    `excluding` (those that failed) are passed over. Raises NoUsableVariant.
    """
    usable = [v for v in playlist.variants if not v.location.refusal and v.name not in excluding]
    if not usable:
        raise NoUsableVariant(f"no variant of {playlist.url} may be fetched")
    seen = [v for v in usable if v.has_video] or usable
    sized = [v for v in seen if v.lines > 0]
    if not sized:
        return max(seen, key=lambda v: v.bandwidth)
    fitting = [v for v in sized if v.lines <= target_height]
    if fitting:
        return max(fitting, key=lambda v: (v.lines, v.bandwidth))
    return min(sized, key=lambda v: (v.lines, -v.bandwidth))


class MultivariantReader:
    """Reads the lines of one multivariant playlist."""

    def __init__(self, url: str, limits: PlaylistLimits) -> None:
        self._url = url
        self._limits = limits
        self._resolve = Resolver(url)
        self._faults = Faults()
        self._described: Variant | None = None
        self._variants: list[Variant] = []
        self._renditions: list[Rendition] = []
        self._spares: Counter[str] = Counter()

    def read(self, text: str) -> MultivariantPlaylist:
        for raw in text.lstrip("\ufeff").split("\n"):
            line = raw.strip()
            if line.startswith("#EXT-X-STREAM-INF:"):
                self._described = _described_variant(parse_attributes(line.partition(":")[2]))
            elif line.startswith("#EXT-X-MEDIA:"):
                self._add_rendition(parse_attributes(line.partition(":")[2]))
            elif line and line[0] != "#":
                self._add_variant(line)
        if not self._variants:
            raise NotAPlaylist(f"multivariant playlist at {self._url} names no variant")
        return MultivariantPlaylist(
            url=self._url,
            variants=tuple(self._variants),
            renditions=tuple(self._renditions),
            faults=tuple(self._faults.kept),
        )

    def _add_variant(self, uri: str) -> None:
        described, self._described = self._described, None
        if described is None or len(self._variants) >= self._limits.entries:
            self._faults.add(uri, "address without STREAM-INF or beyond the cap")
            return
        spare, self._spares[described.name] = self._spares[described.name], self._spares[described.name] + 1
        self._variants.append(replace(described, location=self._resolve(uri), ordinal=spare))

    def _add_rendition(self, attributes: dict[str, str]) -> None:
        if len(self._renditions) >= self._limits.entries:
            return
        uri = attributes.get("URI", "")
        rendition = Rendition(
            kind=attributes.get("TYPE", ""),
            group=attributes.get("GROUP-ID", ""),
            name=attributes.get("NAME", ""),
            location=self._resolve(uri) if uri else None,
            language=attributes.get("LANGUAGE", ""),
            default=attributes.get("DEFAULT", "").upper() == "YES",
            autoselect=attributes.get("AUTOSELECT", "").upper() == "YES",
        )
        self._renditions.append(rendition)


def _described_variant(attributes: dict[str, str]) -> Variant:
    width, _, height = attributes.get("RESOLUTION", "").lower().partition("x")
    return Variant(
        location=Location(url="", refusal="no address"),
        bandwidth=whole_number(attributes.get("BANDWIDTH", ""), 0),
        width=whole_number(width, 0),
        height=whole_number(height, 0),
        codecs=attributes.get("CODECS", ""),
        audio_group=attributes.get("AUDIO", ""),
        subtitles_group=attributes.get("SUBTITLES", ""),
    )
