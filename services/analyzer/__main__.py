"""Starts the analyzer."""

from analyzer.app import build
from analyzer.settings import AnalyzerSettings
from shared.runtime import run

if __name__ == "__main__":
    run("analyzer", AnalyzerSettings, build)
