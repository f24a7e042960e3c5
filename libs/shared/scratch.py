"""The folder in which a service unpacks media; each job makes and removes a folder of its own in it."""

from pathlib import Path


def scratch_folder(path: str) -> Path:
    """The folder, made where it is missing. Raises OSError when it cannot be made."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
