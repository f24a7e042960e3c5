"""Starts the clipper."""

from clipper.app import build
from clipper.settings import ClipperSettings
from shared.runtime import run

if __name__ == "__main__":
    run("clipper", ClipperSettings, build)
