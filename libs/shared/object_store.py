"""The port to the object store, and the store in a local folder that development, tests and the demo use.

Keys are readable relative paths (`shared.keys` makes them); nothing here knows what the objects mean.
The adapter for S3 (`shared.s3_store`) satisfies the same protocol.
"""

import asyncio
import errno
import hashlib
import hmac
import mimetypes
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, ClassVar, Protocol
from urllib.parse import quote

from shared.errors import PermanentError, RetryableError

MAX_KEY_LENGTH = 1024
_CHUNK_BYTES = 1 << 20
_WRITE_ATTEMPTS = 20
_ABANDONED_S = 3600.0
# A part never begins with a dot: no `.`, no `..`, and room for our own temporary files.
_KEY_PART = r"[A-Za-z0-9_=+,@~()!-][A-Za-z0-9._=+,@~()!-]*"
_KEY = re.compile(rf"{_KEY_PART}(/{_KEY_PART})*")
_CONTENT_TYPES = {
    ".aac": "audio/aac",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".ts": "video/mp2t",
    ".vtt": "text/vtt",
    ".webp": "image/webp",
}

Clock = Callable[[], datetime]


class KeyInvalid(PermanentError):
    """The text is not a key: empty, absolute, climbing out of the store, or with other characters."""

    code: ClassVar[str] = "object_key_invalid"


class ObjectMissing(PermanentError):
    """No object has this key."""

    code: ClassVar[str] = "object_missing"


class ObjectDiffers(PermanentError):
    """Other bytes lie under a key that is written once."""

    code: ClassVar[str] = "object_differs"


class StoreUnavailable(RetryableError):
    """The store could not be read or written: disk full, permission, network."""

    code: ClassVar[str] = "object_store_unavailable"


class StoreRefused(StoreUnavailable):
    """The store will not serve us as we are set up: credentials, permission, bucket, region.

    Retryable, since no work is to blame for it; but an operator must act, so it is not tried again at once.
    """

    code: ClassVar[str] = "object_store_refused"


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store holds under a key; `sha256` is 64 hex digits."""

    key: str
    size_bytes: int
    sha256: str


class ObjectStore(Protocol):
    """Objects by key. Every method raises KeyInvalid for a bad key, StoreUnavailable when it cannot work."""

    async def put(self, key: str, body: bytes, *, content_type: str | None = None) -> Stored:
        """Store the body under the key, whole or not at all; replaces what was there."""
        ...

    async def put_once(
        self, key: str, body: bytes, *, content_type: str | None = None, sha256: str | None = None
    ) -> Stored:
        """Store the body under a key that keeps its first bytes for good, whole or not at all.

        The same bytes again are a success, so a lost answer is no harm. Raises ObjectDiffers for other bytes:
        of several writers at once, those who have the winner's bytes succeed and the others are told. A store may
        take `sha256` for granted, which spares it a second look at a body that its caller has just hashed.
        """
        ...

    async def put_file(self, key: str, path: Path, *, content_type: str | None = None) -> Stored:
        """As `put`, streamed from a local file."""
        ...

    async def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectMissing."""
        ...

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes from `start` up to, not including, `end`; fewer where it ends. Raises ObjectMissing."""
        ...

    async def get_file(self, key: str, path: Path) -> Stored:
        """Write the object to a local file, whole or not at all. Raises ObjectMissing."""
        ...

    async def head(self, key: str) -> Stored | None:
        """What is stored under the key, or None."""
        ...

    def list(self, prefix: str) -> AsyncIterator[str]:
        """The keys that start with the prefix (any text, as in S3), in ascending order."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the object; no error when there is none."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Remove every object below a prefix that ends with `/`; answers how many."""
        ...

    async def signed_url(self, key: str, *, expires_s: int) -> str:
        """A URL that serves the object to anyone who holds it, for `expires_s` seconds."""
        ...


def check_key(key: str) -> str:
    """The key itself, if it is one. Raises KeyInvalid."""
    if len(key) > MAX_KEY_LENGTH or not _KEY.fullmatch(key):
        raise KeyInvalid(f"{key[:100]!r} is not an object key")
    return key


def check_folder(prefix: str) -> str:
    """The prefix itself, if all below it may be deleted at once. Raises KeyInvalid.

    It ends with a slash, and names at least an organization: a root like `archive/` belongs to all of them.
    """
    if not prefix.endswith("/"):
        raise KeyInvalid(f"{prefix[:100]!r} is not a prefix that ends with /")
    if "/" not in check_key(prefix[:-1]):
        raise KeyInvalid(f"{prefix[:100]!r} holds the objects of all organizations")
    return prefix


def check_prefix(prefix: str) -> str:
    """The prefix itself, if keys can begin with it, as far as its folders tell. Raises KeyInvalid."""
    folder = prefix.rpartition("/")[0]
    if folder:
        check_key(folder)
    return prefix


def stored_as(key: str, body: bytes) -> Stored:
    """What a store holds once it has the body."""
    return Stored(key=key, size_bytes=len(body), sha256=hashlib.sha256(body).hexdigest())


def require_same(wanted: Stored, found: Stored | None) -> Stored:
    """What lies under a key that was taken already. Raises ObjectDiffers, or StoreUnavailable when it is gone again."""
    if found is None:
        raise StoreUnavailable(f"object {wanted.key} was deleted while it was stored")
    if found.sha256 != wanted.sha256:
        raise ObjectDiffers(f"object {wanted.key} is stored with other bytes")
    return found


def content_type_of(key: str) -> str:
    """The media type by the key's extension, `application/octet-stream` when it says nothing."""
    known = _CONTENT_TYPES.get(Path(key).suffix.lower())
    return known or mimetypes.guess_type(key)[0] or "application/octet-stream"


def sign(key: str, *, expires: int, secret: str) -> str:
    """The signature (hex HMAC-SHA256) that opens the key until `expires` (unix seconds)."""
    return hmac.new(secret.encode(), f"{key}\n{expires}".encode(), hashlib.sha256).hexdigest()


def verify_signature(key: str, expires: int, signature: str, *, secret: str, now: datetime) -> bool:
    """Whether the signature opens the key at `now`; compares in constant time."""
    expected = sign(key, expires=expires, secret=secret)
    genuine = hmac.compare_digest(expected.encode(), signature.encode())
    return genuine and now.timestamp() < expires


class FolderObjectStore:
    """An ObjectStore in a local folder: one file per object, written beside its place and renamed into it.

    The content type is known by the extension when it is read; `head` reads the file for its hash.
    """

    def __init__(self, root: Path, *, public_base_url: str, signing_secret: str, clock: Clock) -> None:
        """`public_base_url` is where the gateway is reached; it serves `/objects/{key}`."""
        self._root = root
        self._public_base_url = public_base_url.rstrip("/")
        self._signing_secret = signing_secret
        self._clock = clock

    async def put(self, key: str, body: bytes, *, content_type: str | None = None) -> Stored:
        return await asyncio.to_thread(self._put, check_key(key), body)

    async def put_once(
        self, key: str, body: bytes, *, content_type: str | None = None, sha256: str | None = None
    ) -> Stored:
        return await asyncio.to_thread(self._put_once, check_key(key), body, sha256)

    async def put_file(self, key: str, path: Path, *, content_type: str | None = None) -> Stored:
        return await asyncio.to_thread(self._put_file, check_key(key), path)

    async def get(self, key: str) -> bytes:
        return await asyncio.to_thread(self._get, check_key(key), 0, None)

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        if not 0 <= start <= end:
            raise ValueError(f"{start}..{end} is not a range")
        return await asyncio.to_thread(self._get, check_key(key), start, end)

    async def get_file(self, key: str, path: Path) -> Stored:
        return await asyncio.to_thread(self._get_file, check_key(key), path)

    async def head(self, key: str) -> Stored | None:
        return await asyncio.to_thread(self._head, check_key(key))

    async def list(self, prefix: str) -> AsyncIterator[str]:
        for key in await asyncio.to_thread(self._list, prefix):
            yield key

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self._delete, check_key(key))

    async def delete_prefix(self, prefix: str) -> int:
        return await asyncio.to_thread(self._delete_prefix, check_folder(prefix))

    async def signed_url(self, key: str, *, expires_s: int) -> str:
        until = self._clock() + timedelta(seconds=expires_s)
        expires = int(until.timestamp())
        signature = sign(check_key(key), expires=expires, secret=self._signing_secret)
        return f"{self._public_base_url}/objects/{quote(key)}?expires={expires}&signature={signature}"

    def file_of(self, key: str) -> Path:
        """Where the object lies, for the route that serves it. Raises KeyInvalid."""
        return self._root / check_key(key)

    def _put(self, key: str, body: bytes) -> Stored:
        with _store_errors(key):
            _write_whole(self._root / key, body, os.replace)
        return stored_as(key, body)

    def _put_once(self, key: str, body: bytes, sha256: str | None) -> Stored:
        wanted = stored_as(key, body) if sha256 is None else Stored(key, len(body), sha256)
        try:
            with _store_errors(key):
                _write_whole(self._root / key, body, _link)
        except _NameTaken:
            return require_same(wanted, self._head(key))
        return wanted

    def _put_file(self, key: str, path: Path) -> Stored:
        with _store_errors(key), path.open("rb") as source, replacing(self._root / key) as target:
            return _copy_hashed(source, target, key=key)

    def _get(self, key: str, start: int, end: int | None) -> bytes:
        with self._opened(key) as source:
            source.seek(start)
            return source.read() if end is None else source.read(end - start)

    def _get_file(self, key: str, path: Path) -> Stored:
        with self._opened(key) as source, replacing(path) as target:
            return _copy_hashed(source, target, key=key)

    def _head(self, key: str) -> Stored | None:
        try:
            with self._opened(key) as source:
                return _hashed(source, key=key)
        except ObjectMissing:
            return None

    def _list(self, prefix: str) -> tuple[str, ...]:
        folder = check_prefix(prefix).rpartition("/")[0]
        with _store_errors(prefix):
            keys = (path.relative_to(self._root).as_posix() for path in _objects_below(self._root / folder))
            return tuple(sorted(key for key in keys if key.startswith(prefix)))

    def _delete(self, key: str) -> None:
        with _store_errors(key):
            (self._root / key).unlink(missing_ok=True)

    def _delete_prefix(self, prefix: str) -> int:
        folder = self._root / prefix
        abandoned_at = self._clock().timestamp() - _ABANDONED_S
        with _store_errors(prefix):
            objects = tuple(_objects_below(folder))
            for path in (*objects, *_abandoned_below(folder, before=abandoned_at)):
                path.unlink(missing_ok=True)
        _remove_empty_folders(folder)
        return len(objects)

    @contextmanager
    def _opened(self, key: str) -> Iterator[IO[bytes]]:
        try:
            source = (self._root / key).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ObjectMissing(f"no object {key}") from error
        except OSError as error:
            raise StoreUnavailable(f"object {key}: {error.strerror}") from error
        with source, _store_errors(key):
            yield source


@contextmanager
def _store_errors(key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"object {key}: {error.strerror or error}") from error


def _write_whole(path: Path, body: bytes, give_name: Callable[[Path, Path], object]) -> None:
    """A file of these bytes that appears under its name, flushed to the disk, or not at all.

    Plain calls of the system, as few as there can be: a thread that makes one gives the interpreter away, and has to
    win it back from a loop that never rests.
    """
    temporary, descriptor = _opened_beside(path)
    try:
        try:
            _write_all(descriptor, body)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        give_name(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _fsync_folder(path.parent)


def _write_all(descriptor: int, body: bytes) -> None:
    """The system may take less than it is given, as on a full disk; then the next call says why."""
    left = memoryview(body)
    while left:
        left = left[os.write(descriptor, left) :]


def _opened_beside(path: Path) -> tuple[Path, int]:
    """`delete_prefix` may take the folder away between making it and using it: then once more."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    for _ in range(_WRITE_ATTEMPTS):
        with suppress(FileNotFoundError):
            return temporary, os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with suppress(FileNotFoundError):  # a folder above it was taken away meanwhile
            path.parent.mkdir(parents=True, exist_ok=True)
    raise FileNotFoundError(errno.ENOENT, "the folder vanishes as often as it is made", str(path.parent))


class _NameTaken(Exception):
    pass


def _link(temporary: Path, path: Path) -> None:
    """A rename would replace; a second name for the finished file is made by one writer alone."""
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise _NameTaken from error
    temporary.unlink()


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name, flushed to the disk, when the block ends well; else not at all."""
    temporary, descriptor = _opened_beside(path)
    try:
        with os.fdopen(descriptor, "wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _fsync_folder(path.parent)


def _fsync_folder(folder: Path) -> None:
    with suppress(FileNotFoundError):  # taken away by `delete_prefix`, and the object with it
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _copy_hashed(source: IO[bytes], target: IO[bytes], *, key: str) -> Stored:
    shutil.copyfileobj(source, target, _CHUNK_BYTES)
    target.flush()
    source.seek(0)
    return _hashed(source, key=key)


def _hashed(source: IO[bytes], *, key: str) -> Stored:
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
    return Stored(key=key, size_bytes=source.tell(), sha256=digest.hexdigest())


def _files_below(folder: Path) -> Iterator[Path]:
    """Files at any depth; a folder that vanishes meanwhile is passed over."""
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


def _objects_below(folder: Path) -> Iterator[Path]:
    return (path for path in _files_below(folder) if not path.name.startswith("."))


def _abandoned_below(folder: Path, *, before: float) -> Iterator[Path]:
    """Temporary files that a killed writer left behind, last changed before this unix time."""
    for path in _files_below(folder):
        with suppress(FileNotFoundError):
            if path.name.startswith(".") and path.stat().st_mtime < before:
                yield path


def _remove_empty_folders(folder: Path) -> None:
    for place, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # not empty: a writer was quicker
            Path(place).rmdir()
