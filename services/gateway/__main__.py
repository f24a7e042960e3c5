"""Starts the gateway, or with `--openapi FILE` writes the description of its API and leaves."""

import sys
from pathlib import Path

from gateway.app import build, openapi_text
from gateway.settings import GatewaySettings
from shared.runtime import run

if __name__ == "__main__":
    if sys.argv[1:2] == ["--openapi"]:
        Path(sys.argv[2]).write_text(openapi_text(), encoding="utf-8")
    else:
        run("gateway", GatewaySettings, build)
