"""Starts the selector."""

from selector.app import build
from selector.settings import SelectorSettings
from shared.runtime import run

if __name__ == "__main__":
    run("selector", SelectorSettings, build)
