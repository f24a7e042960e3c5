"""Reads what ingest left behind: its tables, its events, the objects in a folder store, and its spool folders.

As a program it judges offers that origins wrote against that: `python -m sandbox.faults_archive --help`.
"""

import argparse
import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from sandbox.faults_checker import Archived, Judgement, Kept, Missed, judge
from sandbox.faults_offer import read_offers

_SEGMENTS = "SELECT stream_id, epoch, sequence, position, sha256, duration_us, key FROM ingest.segments"
_GAPS = "SELECT stream_id, epoch, from_sequence, to_sequence, duration_us, cause FROM ingest.gaps"
_EVENTS = "SELECT event_id::text, event_name, stream_id, body::jsonb ->> 'cause' FROM ingest.outbox"


async def read_kept(
    database_url: str, *, objects: Path, spools: Sequence[Path] = (), names: Mapping[str, str] | None = None
) -> Kept:
    """`names` maps stream ids to the names in the offers; `database_url` is an administrator's."""
    connection = await asyncpg.connect(database_url)
    try:
        segments, gaps, events = [await connection.fetch(query) for query in (_SEGMENTS, _GAPS, _EVENTS)]
    finally:
        await connection.close()
    known = names or {}
    return Kept(
        archived=await asyncio.to_thread(_archived, segments, objects, known),
        missed=tuple(Missed(stream=known.get(row[0], row[0]), **_fields(row, _MISSED)) for row in gaps),
        endings=tuple((known.get(row[2], row[2]), row[3]) for row in events if row[1] == "stream.ended"),
        event_ids=tuple(row[0] for row in events),
        spooled=tuple(sorted(path.name for folder in spools for path in folder.rglob("*.body"))),
    )


_MISSED = ("epoch", "from_sequence", "to_sequence", "duration_us", "cause")
_ARCHIVED = ("epoch", "sequence", "position", "sha256", "duration_us")


def _fields(row: asyncpg.Record, names: Sequence[str]) -> dict[str, Any]:
    return {name: row[name] for name in names}


def _archived(
    rows: Sequence[asyncpg.Record], objects: Path, names: Mapping[str, str]
) -> tuple[Archived, ...]:
    return tuple(
        Archived(
            stream=names.get(row["stream_id"], row["stream_id"]),
            is_sound=_digest(objects / row["key"]) == row["sha256"],
            **_fields(row, _ARCHIVED),
        )
        for row in rows
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


async def _judged(options: argparse.Namespace) -> Judgement:
    offers = [offer for path in options.offers for offer in await asyncio.to_thread(read_offers, path)]
    kept = await read_kept(options.database_url, objects=options.objects, spools=options.spool)
    return judge(offers, kept, is_disturbed=options.disturbed)


def main() -> int:
    """Print what is wrong, and the figures; answers 1 where something is."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.faults_archive", description=__doc__)
    parser.add_argument("--offers", type=Path, nargs="+", required=True, help="files that origins wrote")
    parser.add_argument("--database-url", required=True, help="of an administrator")
    parser.add_argument("--objects", type=Path, required=True, help="folder of the object store")
    parser.add_argument("--spool", type=Path, nargs="*", default=(), help="spool folders")
    parser.add_argument("--disturbed", action="store_true", help="ingest was killed meanwhile")
    judgement = asyncio.run(_judged(parser.parse_args()))
    for violation in judgement.violations:
        print(violation)
    print(
        f"{judgement.archived_count} of {judgement.offered_count} segments archived, "
        f"{judgement.lost_s:.1f} s of {judgement.offered_s:.1f} s lost {dict(judgement.causes)}"
    )
    return 1 if judgement.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
