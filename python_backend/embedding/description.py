"""What an exported embedding model says of itself, beside its graph."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "description.json"


@dataclass(frozen=True)
class Description:
    """How vectors of one model are made.

    Attributes:
        model: its name, such as `sentence-transformers/all-MiniLM-L6-v2`.
        dimensions: size of its vectors.
        max_tokens: longer texts are cut there.
        pooling: `mean`, `last` or `cls`, what it was trained with.
        pad_token: id that fills shorter texts of a batch.
        instruction: what goes before a text that comes with an instruction, `{instruction}` in it; empty where the
            model was not trained with any.
        query_prompt: what goes before a query that comes without one.
    """

    model: str
    dimensions: int
    max_tokens: int
    pooling: str
    pad_token: int
    instruction: str
    query_prompt: str

    def save(self, directory: Path) -> None:
        """Write it into `directory`."""
        (directory / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> "Description":
        """Read it from `directory`."""
        return cls(**json.loads((directory / FILE).read_text(encoding="utf-8")))
