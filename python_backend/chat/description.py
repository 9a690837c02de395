"""What an exported chat model says of itself, beside its weights."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "description.json"


@dataclass(frozen=True)
class Description:
    """How a chat model is listed.

    Attributes:
        model: its name.
        description: what it is, for people.
    """

    model: str
    description: str

    def save(self, directory: Path) -> None:
        """Write it into `directory`."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        (directory / FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> "Description":
        """Read it from `directory`."""
        return cls(**json.loads((directory / FILE).read_text(encoding="utf-8")))
