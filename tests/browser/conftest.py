"""Debian's Chromium, driven by Playwright, and hls.js as npm has it; `make test-browser` brings both."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

REPOSITORY = Path(__file__).resolve().parents[2]
HLS_JS = REPOSITORY / ".scratch/browser/node_modules/hls.js/dist/hls.min.js"
# Nothing but what the tests ask for leaves this browser.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--autoplay-policy=no-user-gesture-required",
)


@pytest.fixture(scope="session")
def hls_js() -> Path:
    if not HLS_JS.is_file():
        pytest.skip(f"hls.js is not at {HLS_JS.relative_to(REPOSITORY)}: run make test-browser")
    return HLS_JS


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: run make test-browser")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=chromium, headless=True, args=list(FLAGS))
        yield started
        await started.close()
