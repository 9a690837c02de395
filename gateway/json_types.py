"""What fields of JSON bodies are made of, where pydantic's own types do not suffice."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("unicode", "must be valid Unicode") from None
    return text


WholeText = Annotated[str, AfterValidator(_whole)]
"""A text without half surrogate pairs, which JSON can carry and UTF-8 cannot."""


@dataclass(frozen=True)
class Refusal:
    """Refuses what its type does not allow in one sentence, in place of one for each member of a union."""

    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Wrap the type's own validation."""

        def check(value: Any, validate: core_schema.ValidatorFunctionWrapHandler) -> Any:
            try:
                return validate(value)
            except ValidationError:
                raise PydanticCustomError("refused", "{words}", {"words": self.words}) from None

        return core_schema.no_info_wrap_validator_function(check, handler(source))
