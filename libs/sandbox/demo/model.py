"""Which model the demo's analyzer asks: none, the double, or Google's with a key from the environment."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from sandbox.demo.options import Options
from sandbox.gemini import GeminiDouble


@asynccontextmanager
async def model_settings(options: Options) -> AsyncIterator[Mapping[str, str]]:
    """Variables for the analyzer alone; with `gemini_double` they lead to a double that lives for the block."""
    if not options.gemini_double:
        yield options.gemini
        return
    key = secrets.token_hex(16)
    async with GeminiDouble(keys={key}) as double:
        yield {**options.gemini, "GEMINI_API_KEY": key, "GEMINI_BASE_URL": double.base_url}
