"""Profiles from memory."""

from dataclasses import dataclass

from shared.object_store import ObjectMissing
from shared.profile import Dimension, Profile


def default_profile() -> Profile:
    """The default dimensions and weights."""
    weights = {
        "skill_execution": 0.20,
        "game_impact": 0.20,
        "rarity": 0.15,
        "visual_spectacle": 0.15,
        "emotional_intensity": 0.10,
        "narrative_value": 0.10,
        "timing_importance": 0.05,
        "momentum_shift": 0.05,
    }
    dimensions = tuple(Dimension(name=n, definition=n, weight=w) for n, w in weights.items())
    return Profile(name="default", dimensions=dimensions)


@dataclass(frozen=True)
class FakeProfiles:
    profiles: dict[str, Profile]

    async def get(self, key: str) -> Profile:
        if key not in self.profiles:
            raise ObjectMissing(f"no object {key}")
        return self.profiles[key]
