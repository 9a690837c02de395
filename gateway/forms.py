"""Bodies that come as a multipart form, a plain form or JSON, read into one schema."""

import json
from typing import Annotated, Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError, WithJsonSchema, field_validator
from starlette.datastructures import UploadFile

from gateway.errors import InvalidJson, InvalidValue, UnsupportedMediaType

FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
JSON = "application/json"

Upload = Annotated[
    bytes | str | None, WithJsonSchema({"anyOf": [{"type": "string", "format": "binary"}, {"type": "null"}]})
]
"""A file; where none can be sent, its base64."""


class FormModel(BaseModel):
    """Values may come as text; keys nobody knows are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _whole_unicode(cls, value: Any) -> Any:
        """Refuse half surrogate pairs, which JSON can carry and UTF-8 cannot."""
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("it must be valid Unicode") from None
        return value


Form = TypeVar("Form", bound=FormModel)


async def read_form(request: Request, model: type[Form]) -> Form:
    """Read the body of `request`. What a form leaves empty counts as left out, but for `text`.

    Raises:
        RequestValidationError: a field is missing or has a value it must not have.
        ApiError: the body is none of the three.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in FORMS:
        async with request.form() as form:
            fields = {name: await _value(value) for name, value in form.items()}
        fields = {name: value for name, value in fields.items() if value != "" or name == "text"}
    elif kind == JSON:
        fields = await _json(request)
    elif kind or await request.body():
        raise UnsupportedMediaType(f"Content-Type must be {', '.join((*FORMS, JSON))}, is {kind or 'missing'}")
    else:
        fields = {}
    try:
        return model.model_validate(fields, strict=kind == JSON)  # a form has no types, JSON has
    except ValidationError as error:
        raise RequestValidationError(
            error.errors(include_url=False, include_input=False, include_context=False)
        ) from None


def form_body(model: type[FormModel]) -> dict[str, Any]:
    """Return FastAPI's `openapi_extra` for a body that `read_form` reads."""
    schema = model.model_json_schema()
    fields = schema["properties"].items()
    may_be_empty = {name: field if name == "text" else {"anyOf": [field, {"const": ""}]} for name, field in fields}
    form = {**schema, "properties": may_be_empty}
    content = {kind: {"schema": schema if kind == JSON else form} for kind in (*FORMS, JSON)}
    return {"requestBody": {"required": True, "content": content}}


async def _value(value: UploadFile | str) -> bytes | str:
    if isinstance(value, str):
        return value
    content = await value.read()
    return content if content or value.filename else ""  # what a browser sends for a file that was not chosen


async def _json(request: Request) -> dict[str, Any]:
    try:
        content = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise InvalidJson("the body is not valid JSON") from None
    if not isinstance(content, dict):
        raise InvalidValue("the body must be a JSON object")
    return content
