"""Makes the secrets of a local installation once: one file for each, named as its setting.

`python -m shared.secret_files FOLDER` writes what is missing and leaves what is there. Services read such a
folder at /run/secrets, where Docker and Kubernetes mount theirs.
"""

import os
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from shared.keyring import generate_key

MAKERS: Mapping[str, Callable[[], str]] = MappingProxyType(
    {"URL_SIGNING_SECRET": lambda: secrets.token_hex(32), "SECRETS_KEYRING": generate_key}
)


def write_missing(folder: Path) -> tuple[str, ...]:
    """Write the secrets that have no file yet, readable by the owner only; answers their names."""
    missing = tuple(name for name in MAKERS if not (folder / name).exists())
    for name in missing:
        _write(folder / name, MAKERS[name]())
    return missing


def _write(path: Path, secret: str) -> None:
    """Under another name first: a file that is there is whole."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret)
        file.flush()
        os.fsync(descriptor)
    unfinished.rename(path)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("which folder?")
    made = write_missing(Path(sys.argv[1]))
    sys.stdout.write(f"made {', '.join(made)}\n" if made else "all secrets are there\n")


if __name__ == "__main__":
    main()
