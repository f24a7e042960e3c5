"""The API's own pages in a browser: they show every operation, ask no other host, and complain of nothing."""

from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser

from tests.browser.witness import Witness
from tests.conftest import Installation
from tests.pipeline.product import product

pytestmark = pytest.mark.browser


async def test_the_pages_show_every_operation_and_ask_nobody_else(
    installation: Installation, browser: Browser
) -> None:
    async with product(installation) as made:
        witness = await Witness.of(browser)
        page = witness.page
        shown = {}
        for path in ("/docs", "/redoc"):
            await page.goto(f"{made.api_url}{path}", wait_until="networkidle")
            shown[path] = await page.locator("main details[id] > summary code").all_inner_texts()
        described = await (await page.request.get(f"{made.api_url}/openapi.json")).json()
        health = page.locator("main details[id]").filter(has_text="/health").first
        await health.locator("> summary").click()
        await health.get_by_text("Try it").click()
        await health.get_by_role("button", name="Send").click()
        answer = health.locator("pre")
        await answer.filter(has_text="200").wait_for()
        told = await answer.inner_text()
        await page.goto(f"{made.api_url}/docs/events", wait_until="networkidle")
        title = await page.title()
        await page.close()

    operations = sorted(path for path, item in described["paths"].items() for _ in item)
    assert operations == sorted(shown["/docs"]) == sorted(shown["/redoc"])
    assert '"status": "healthy"' in told
    assert title
    assert [] == witness.faults
    assert {urlsplit(made.api_url).netloc} == witness.hosts
