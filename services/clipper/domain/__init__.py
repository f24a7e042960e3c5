"""What the clipper decides, without I/O: which segments, which frames, which encoding, which events."""
