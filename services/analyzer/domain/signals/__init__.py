"""From measured series of one window to moments: pure, deterministic, without knowledge of other windows."""
