"""Starts ingest."""

from ingest.app import build
from ingest.settings import IngestSettings
from shared.runtime import run

if __name__ == "__main__":
    run("ingest", IngestSettings, build)
