"""What goes wrong on a page, and which addresses it asks: kept while the page is open."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.async_api import Browser, ConsoleMessage, Error, Page, Request, Response


@dataclass
class Witness:
    page: Page
    faults: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    @classmethod
    async def of(cls, browser: Browser) -> "Witness":
        """A new page in a context of its own."""
        context = await browser.new_context()
        witness = cls(await context.new_page())
        witness.page.on("console", witness._on_console)
        witness.page.on("pageerror", witness._on_error)
        witness.page.on("request", witness._on_request)
        witness.page.on("requestfailed", witness._on_failure)
        witness.page.on("response", witness._on_response)
        return witness

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"console {message.type}: {message.text}")

    def _on_error(self, error: Error) -> None:
        self.faults.append(f"page: {error}")

    def _on_request(self, request: Request) -> None:
        if urlsplit(request.url).scheme not in ("blob", "data"):
            self.hosts.add(urlsplit(request.url).netloc)

    def _on_failure(self, request: Request) -> None:
        self.faults.append(f"failed: {request.url} {request.failure}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self.faults.append(f"{response.status}: {response.url}")
