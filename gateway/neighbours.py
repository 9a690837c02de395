"""The services beside speech, as the application is given them."""

from dataclasses import dataclass

from gateway.chat_backends import ChatBackend
from gateway.embedding import Embedder


@dataclass(frozen=True)
class Neighbours:
    """What answers conversations and embeds texts; without one, its requests are refused as unavailable."""

    chat: ChatBackend | None = None
    embedder: Embedder | None = None

    async def close(self) -> None:
        """Let go of connections."""
        for service in (self.chat, self.embedder):
            if service is not None:
                await service.close()
