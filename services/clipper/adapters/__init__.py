"""The outside things of the clipper, one per file."""
