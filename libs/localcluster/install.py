"""Makes sure that the programs of the local cluster are installed; run by `make` before the virtual environment exists.

On Debian as root it says what it will install and installs it without letting any service start.
Elsewhere it says what to install and exits with 1. Only the system's Python and its standard library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from localcluster import binaries

REQUIRED_PROGRAMS = (
    "ffmpeg",
    "ffprobe",
    "rabbitmq-server",
    "rabbitmqctl",
    "epmd",
    "erl_call",
    "initdb",
    "postgres",
    "psql",
    "bwrap",
)
# Only tests start these; without them the tests that need them are skipped.
OPTIONAL_PROGRAMS = ("redis-server",)
# Only `make test-browser` needs these.
BROWSER_PROGRAMS = ("chromium", "npm")
REQUIRED_PYTHON = (3, 11)
POLICY_FILE = Path("/usr/sbin/policy-rc.d")
CREATE_CLUSTER_FILE = Path("/etc/postgresql-common/createcluster.conf")
REFUSE_EVERY_SERVICE = "#!/bin/sh\nexit 101\n"
NO_MAIN_CLUSTER = "create_main_cluster = false\n"


def main(*purposes: str) -> int:
    """Exit code: 0 when everything is there at the end, 1 when something has to be done by hand.

    `browser` as purpose asks for what tests in a browser need, too.
    """
    if sys.version_info < REQUIRED_PYTHON:
        print(
            f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make PYTHON=/path/to/python3.11 ..."
        )
        return 1
    may_install = is_debian() and os.geteuid() == 0
    extra = BROWSER_PROGRAMS if "browser" in purposes else ()
    wanted = (*REQUIRED_PROGRAMS, *extra, *(OPTIONAL_PROGRAMS if may_install else ()))
    packages = packages_for(missing_programs(wanted), venv_works=can_make_venv())
    if not packages:
        return 0
    if not may_install:
        print("\n".join(instructions(packages, debian=is_debian())), file=sys.stderr)
        return 1
    print(f"Installing Debian packages (no service will be started): {' '.join(packages)}", flush=True)
    return install(packages)


def missing_programs(programs: Iterable[str] = REQUIRED_PROGRAMS) -> tuple[str, ...]:
    """Those of `programs` that are not on this machine."""
    return tuple(program for program in programs if binaries.find(program) is None)


def packages_for(missing: Iterable[str], *, venv_works: bool) -> tuple[str, ...]:
    """Debian packages, sorted, that bring the missing programs and, if need be, `python3 -m venv`."""
    packages = {binaries.PACKAGES[program] for program in missing}
    if not venv_works:
        packages.add("python3-venv")
    return tuple(sorted(packages))


def instructions(packages: Iterable[str], *, debian: bool) -> tuple[str, ...]:
    """What to tell a person whose machine we do not change."""
    names = " ".join(packages)
    if debian:
        return (
            "Some system packages are missing. As root, run:",
            f"  apt-get install --no-install-recommends {names}",
        )
    return (
        "Some programs are missing. Install what your system calls these Debian packages:",
        f"  {names}",
        "PostgreSQL 15 or newer, RabbitMQ 3.10 or newer; their servers need not run. Then run make again.",
    )


def can_make_venv() -> bool:
    """Debian splits ensurepip off from Python."""
    return find_spec("venv") is not None and find_spec("ensurepip") is not None


def is_debian() -> bool:
    return Path("/etc/debian_version").is_file() and shutil.which("apt-get") is not None


def install(packages: Iterable[str]) -> int:
    """Install with apt-get as root; 0 or 1. The two files that keep services down are put back as they were."""
    wanted = tuple(packages)
    if not _apt_get("update", "-qq"):
        return 1
    with temporary_file(POLICY_FILE, content=REFUSE_EVERY_SERVICE, mode=0o755):
        if "postgresql" not in wanted:
            return 0 if _apt_get_install(wanted) else 1
        # First the package that owns the file, so that dpkg never meets a changed one.
        if not _apt_get_install(("postgresql-common",)):
            return 1
        with temporary_file(CREATE_CLUSTER_FILE, content=NO_MAIN_CLUSTER, mode=0o644):
            return 0 if _apt_get_install(wanted) else 1


def _apt_get_install(packages: Iterable[str]) -> bool:
    return _apt_get("install", "-qq", "-y", "--no-install-recommends", *packages)


def _apt_get(*arguments: str) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    code = subprocess.run(("apt-get", *arguments), env=environment, check=False).returncode
    if code != 0:
        print(f"apt-get {' '.join(arguments)} failed with {code}", file=sys.stderr)
    return code == 0


@contextmanager
def temporary_file(path: Path, *, content: str, mode: int) -> Iterator[None]:
    """`path` has this content inside the block; afterwards it is exactly what it was, or absent.

    A previous file is moved aside and back, so owner, mode and times are kept. A folder made for it goes too, if empty.
    """
    aside = path.with_name(path.name + ".tldr-aside")
    if aside.exists():  # an earlier run was killed in mid-install
        aside.rename(path)
    existed = path.exists() or path.is_symlink()
    new_folders = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    if existed:
        path.rename(aside)
    try:
        path.write_text(content)
        path.chmod(mode)
        yield
    finally:
        _put_back(path, aside=aside, existed=existed, new_folders=new_folders)


def _put_back(path: Path, *, aside: Path, existed: bool, new_folders: Iterable[Path]) -> None:
    if existed:
        aside.rename(path)
        return
    path.unlink(missing_ok=True)
    for folder in new_folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
