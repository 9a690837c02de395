"""How routes declare the error answers they give."""

from http import HTTPStatus
from typing import Any

from gateway.schemas import ErrorBody


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` for answers in the error envelope."""
    return {status: {"model": ErrorBody, "description": HTTPStatus(status).phrase} for status in statuses}
