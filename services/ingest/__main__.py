"""Starts ingest."""

from ingest.app import build
from ingest.settings import IngestSettings
from shared.allocator import collect_rarely, reuse_freed_memory
from shared.runtime import run

if __name__ == "__main__":
    reuse_freed_memory()
    collect_rarely()
    run("ingest", IngestSettings, build)
