"""Why a body is not read as a playlist, or a playlist not followed."""

from shared.errors import PermanentError, RetryableError


class NotAPlaylist(RetryableError):
    """The body is no HLS playlist (an error page with status 200, a truncated head); the next may be one."""

    code = "not_a_playlist"


class PlaylistTooLarge(PermanentError):
    """The body is longer than any playlist that we follow."""

    code = "playlist_too_large"


class NoUsableVariant(PermanentError):
    """A multivariant playlist names no variant that we may fetch."""

    code = "no_usable_variant"
