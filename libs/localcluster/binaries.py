"""Where the programs that the local servers need are found on this machine; nothing is started here.

Only the standard library, and only syntax that an old system Python can parse: `localcluster.install` runs first.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

POSTGRES_FOLDERS = ("/usr/lib/postgresql", "/usr/pgsql")
# Debian's /usr/sbin/rabbitmq-server is a wrapper that insists on root and the rabbitmq account.
RABBITMQ_FOLDERS = ("/usr/lib/rabbitmq/bin",)
POSTGRES_PROGRAMS = ("initdb", "postgres", "pg_ctl", "psql")

PACKAGES = {
    "ffmpeg": "ffmpeg",
    "ffprobe": "ffmpeg",
    "bwrap": "bubblewrap",
    "chromium": "chromium",
    "npm": "npm",
    "rabbitmq-server": "rabbitmq-server",
    "rabbitmqctl": "rabbitmq-server",
    "epmd": "erlang-base",
    "erl_call": "erlang-base",
    "initdb": "postgresql",
    "postgres": "postgresql",
    "pg_ctl": "postgresql",
    "psql": "postgresql-client",
    "redis-server": "redis-server",
}


class MissingProgramError(Exception):
    """A program is not installed; the message names the Debian package that has it."""


def find(program: str) -> Path | None:
    """Path of `program`, or nothing; looks in Debian's private folders before PATH."""
    for folder in _private_folders(program):
        candidate = folder / program
        if candidate.is_file():
            return candidate
    found = shutil.which(program)
    return Path(found) if found else None


def locate(program: str) -> Path:
    """Path of `program`.

    Raises:
        MissingProgramError: it is not installed.
    """
    found = find(program)
    if found is None:
        package = PACKAGES.get(program, program)
        raise MissingProgramError(
            f"{program} is not installed: run `make install`, or install it yourself (Debian package: {package})"
        )
    return found


def _private_folders(program: str) -> list[Path]:
    if program in POSTGRES_PROGRAMS:
        return _postgres_folders()
    if program.startswith("rabbitmq"):
        return [Path(folder) for folder in RABBITMQ_FOLDERS]
    return []


def _postgres_folders() -> list[Path]:
    """`bin` folders of the installed PostgreSQL versions, newest first, of complete servers only."""
    found = [path for root in POSTGRES_FOLDERS for path in Path(root).glob("*/bin")]
    complete = [
        path for path in found if all((path / program).is_file() for program in ("initdb", "postgres"))
    ]
    return sorted(complete, key=_version, reverse=True)


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", folder.parent.name))
