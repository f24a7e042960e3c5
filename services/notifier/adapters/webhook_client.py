"""The customers' endpoints, reached through the one safe HTTP client."""

from notifier.domain.delivery import Answer, NoAnswer, Outgoing
from shared.errors import PermanentError, PipelineError
from shared.http_client import WEBHOOK_LIMITS, Limits, Response, SafeHttpClient

LOGGED_BYTES = 4096


class WebhookClient:
    """Sends once, and turns whatever goes wrong on the wire into a reason."""

    def __init__(self, client: SafeHttpClient, *, limits: Limits = WEBHOOK_LIMITS) -> None:
        self._client = client
        self._limits = limits

    async def send(self, outgoing: Outgoing) -> Answer | NoAnswer:
        try:
            response = await self._client.post(
                outgoing.url, body=outgoing.body, headers=outgoing.headers, limits=self._limits
            )
        except PipelineError as error:
            return NoAnswer(error.code, str(error), permanent=isinstance(error, PermanentError))
        return Answer(response.status, response.headers.get("retry-after", ""), logged_text(response))


def logged_text(response: Response) -> str:
    """The start of the answer as text that PostgreSQL takes, at most 4 KiB of UTF-8."""
    text = response.body[:LOGGED_BYTES].decode(errors="replace").replace("\x00", "\ufffd")
    return text.encode()[:LOGGED_BYTES].decode(errors="ignore")
