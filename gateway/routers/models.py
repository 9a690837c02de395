"""The models a request can name, in OpenAI's form."""

import time

from fastapi import APIRouter

from gateway.errors import ModelNotFound
from gateway.models import OWNERS
from gateway.routers.documented import errors
from gateway.schemas import ModelCard, ModelList


def router() -> APIRouter:
    """Return the routes under `/v1/models`."""
    routes = APIRouter(prefix="/v1/models", tags=["models"])
    created = int(time.time())
    cards = {name: ModelCard(id=name, created=created, owned_by=owner) for name, owner in OWNERS.items()}

    @routes.get("")
    async def list_models() -> ModelList:
        """List the model and its aliases."""
        return ModelList(data=list(cards.values()))

    @routes.get("/{model}", responses=errors(404))
    async def get_model(model: str) -> ModelCard:
        """Describe one model."""
        if model not in cards:
            raise ModelNotFound(f"no model is called {model!r}; see /v1/models", param="model")
        return cards[model]

    return routes
