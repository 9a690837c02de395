"""Bodies that are JSON whatever their Content-Type says, as Flask's `get_json(force=True)` reads them."""

import json
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from gateway.errors import InvalidJson, from_validation

Model = TypeVar("Model", bound=BaseModel)


async def read_json(request: Request, model: type[Model]) -> Model:
    """Read the body of `request`.

    Raises:
        ApiError: it is not JSON, or not what `model` describes.
    """
    try:
        content = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise InvalidJson("the body is not valid JSON") from None
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise from_validation([{**finding, "loc": ("body", *finding["loc"])} for finding in error.errors()]) from None


def json_body(model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """Return FastAPI's `openapi_extra` for a body that `read_json` reads."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}
