"""A customer's page with hls.js on an origin of its own, and what it tells about the picture that it shows."""

from pathlib import Path
from typing import Any

from aiohttp import web
from playwright.async_api import Page

from sandbox.film import BLOCK_PX, COUNTER_BITS, HEIGHT, MARGIN_PX, WIDTH
from sandbox.http_server import HttpServer

PAGE = f"""<!doctype html>
<html><head><meta charset="utf-8"><title>Player</title><link rel="icon" href="data:,">
<script src="/hls.js"></script></head>
<body><video id="video" muted playsinline width="{WIDTH}" height="{HEIGHT}"></video>
<script>
"use strict";
const video = document.getElementById("video");
const told = {{ errors: [], firstTime: null }};
const hls = new Hls();
hls.on(Hls.Events.ERROR, (_, data) => told.errors.push(`${{data.type}} ${{data.details}} fatal=${{data.fatal}}`));
video.addEventListener("loadeddata", () => {{ told.firstTime = video.currentTime; }});
hls.loadSource(new URLSearchParams(location.search).get("src"));
hls.attachMedia(video);
const canvas = new OffscreenCanvas({WIDTH}, {HEIGHT});
const context = canvas.getContext("2d", {{ willReadFrequently: true }});
function shownFrame() {{
  context.drawImage(video, 0, 0, {WIDTH}, {HEIGHT});
  let number = 0;
  for (let bit = 0; bit < {COUNTER_BITS}; bit += 1) {{
    const x = {MARGIN_PX} + bit * {BLOCK_PX} + {BLOCK_PX // 2};
    number = number * 2 + (context.getImageData(x, {BLOCK_PX // 2}, 1, 1).data[0] > 127 ? 1 : 0);
  }}
  return number;
}}
function state() {{
  return {{ ...told, frame: shownFrame(), time: video.currentTime, duration: video.duration, ended: video.ended }};
}}
</script></body></html>
"""


class PlayerPage(HttpServer):
    """Serves the page and hls.js; the playlist comes from elsewhere, as it does for customers."""

    def __init__(self, hls_js: Path) -> None:
        super().__init__(host="127.0.0.1", port=0)
        self._hls_js = hls_js

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/hls.js":
            return web.FileResponse(self._hls_js, headers={"Content-Type": "text/javascript"})
        return web.Response(text=PAGE, content_type="text/html")


async def state_of(page: Page) -> dict[str, Any]:
    """Errors of hls.js, where playback began, and the number of the picture that is shown."""
    told: dict[str, Any] = await page.evaluate("state()")
    return told
