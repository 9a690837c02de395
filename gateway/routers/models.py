"""The models a request can name, in OpenAI's form."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from fastapi import APIRouter

from client.errors import SpeechError
from gateway.backend import Backend
from gateway.errors import ModelNotFound
from gateway.models import OWNERS
from gateway.routers.documented import errors
from gateway.schemas import DEFAULT_MODEL, ModelCard, ModelList

Neighbour = Callable[[], Awaitable[Mapping[str, tuple[str, str]]]]
"""Gives the names under which a neighbouring model can be asked for now, each with its owner and a description."""


def router(speech: Backend, neighbours: Sequence[Neighbour] = ()) -> APIRouter:
    """Return the routes under `/v1/models`, which list the speech model and those of `neighbours` that are loaded."""
    routes = APIRouter(prefix="/v1/models", tags=["models"])
    created = int(time.time())
    cards = {name: ModelCard(id=name, created=created, owned_by=owner) for name, owner in OWNERS.items()}

    async def known() -> dict[str, ModelCard]:
        found = dict(cards)
        with suppress(SpeechError):  # without an answer it is not known which are loaded
            found[DEFAULT_MODEL] = cards[DEFAULT_MODEL].model_copy(update={"variants": [*await speech.variants()]})
        for models in await asyncio.gather(*(neighbour() for neighbour in neighbours)):
            for name, (owner, what) in models.items():
                found[name] = ModelCard(id=name, created=created, owned_by=owner, description=what)
        return found

    @routes.get("", response_model_exclude_none=True)
    async def list_models() -> ModelList:
        """List the models that can be asked for now, and their aliases."""
        return ModelList(data=list((await known()).values()))

    @routes.get("/{model:path}", response_model_exclude_none=True, responses=errors(404))
    async def get_model(model: str) -> ModelCard:
        """Describe one model."""
        card = (await known()).get(model)
        if card is None:
            raise ModelNotFound(f"no model is called {model!r}; see /v1/models", param="model")
        return card

    return routes
