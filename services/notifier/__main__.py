"""`python -m notifier` runs the service."""

from notifier.app import build
from notifier.settings import NotifierSettings
from shared.runtime import run

if __name__ == "__main__":
    run("notifier", NotifierSettings, build)
