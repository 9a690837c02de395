"""A conversation to the tokens that the model continues."""

from pathlib import Path

from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from python_backend.chat.request import Message
from python_backend.errors import InvalidInput


class Prompter:
    """The checkpoint's own chat template, which transformers runs in Jinja's sandbox.

    Args:
        directory: the checkpoint.

    Raises:
        ValueError: it has no chat template or no fast tokenizer.
    """

    def __init__(self, directory: Path):
        self._tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        if not self._tokenizer.chat_template:
            raise ValueError(f"{directory} has no chat template")
        if not self._tokenizer.is_fast:
            raise ValueError(f"{directory} has no tokenizer.json")
        self.backend.no_truncation()
        added = self._tokenizer.added_tokens_decoder.values()
        self._controls = [token.content for token in added if token.special]

    @property
    def backend(self) -> Tokenizer:
        """The tokenizer itself, for decoding."""
        return self._tokenizer.backend_tokenizer

    def encode(self, messages: list[Message]) -> list[int]:
        """Return the prompt's tokens.

        Raises:
            InvalidInput: the template refuses the conversation, or a message holds one of the model's control tokens.
        """
        for number, message in enumerate(messages):
            for control in self._controls:
                if control in message["content"]:
                    raise InvalidInput("messages", f"number {number} must not contain the control token {control}")
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise InvalidInput("messages", f"do not fit the model's chat template: {error}") from error
        # Not through transformers, whose settings of truncation are not safe in several threads.
        return list(self.backend.encode(text, add_special_tokens=False).ids)
