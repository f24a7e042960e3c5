"""The profile files that come with the gateway."""

from pathlib import Path

import yaml

from gateway.domain.profile_resolution import ProfileFileInvalid, read_profile
from shared.profile import Profile

FOLDER = Path(__file__).resolve().parents[1] / "profiles"


def default_profile(folder: Path = FOLDER) -> Profile:
    """Raises ProfileFileInvalid, naming the file."""
    path = folder / "default.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return read_profile(content)
    except (ProfileFileInvalid, TypeError) as error:
        raise ProfileFileInvalid(f"{path.name}: {error}") from error
