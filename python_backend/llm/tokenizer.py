"""Text to token ids by the checkpoint's own SentencePiece model; plain text can never become a control token."""

import re
from itertools import pairwise
from pathlib import Path

import sentencepiece


class Tokenizer:
    """SentencePiece with the special ids of Step-Audio looked up in the model file.

    Attributes:
        bos, bot, eot: ids of `<s>`, `<|BOT|>` (begin of turn) and `<|EOT|>` (end of turn, where generation stops).
        audio_offset: id of `<audio_0>`; audio token n is id `audio_offset + n`.
        audio_tokens: how many audio tokens follow one another from there.
    """

    def __init__(self, path: Path):
        """Open `path`.

        Raises:
            ValueError: the model lacks a special piece or the audio tokens are not consecutive.
        """
        self._model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.bos, self.bot, self.eot = (self._id(piece) for piece in ("<s>", "<|BOT|>", "<|EOT|>"))
        self.audio_offset = self._id("<audio_0>")
        size = self._model.vocab_size()
        self.audio_tokens = size - self.audio_offset
        if self._model.id_to_piece(size - 1) != f"<audio_{self.audio_tokens - 1}>":
            raise ValueError(f"{path}: the audio tokens are not the last, consecutive pieces")
        self._special = self._special_pieces()
        self._newline = self._model.encode("\n")

    def _id(self, piece: str) -> int:
        found = int(self._model.piece_to_id(piece))
        if self._model.id_to_piece(found) != piece:
            raise ValueError(f"the tokenizer has no piece {piece}")
        return found

    def _special_pieces(self) -> re.Pattern[str]:
        model = self._model
        # A normal piece has a log-probability below zero; control and user-defined pieces have none.
        names = [
            model.id_to_piece(piece)
            for piece in range(self.audio_offset)
            if model.get_score(piece) == 0 and not model.is_byte(piece) and not model.is_unknown(piece)
        ]
        return re.compile("|".join([*map(re.escape, names), r"<audio_\d+>"]))

    def special_piece_in(self, text: str) -> str | None:
        """Return the first control or audio token that is written out in `text`, or None."""
        match = self._special.search(text)
        return match.group() if match else None

    def encode(self, text: str, *, word_start: bool = True) -> list[int]:
        """Return the ids of plain text; a control or audio token written out in it is read as mere characters.

        Args:
            word_start: whether SentencePiece puts its `▁` in front, as it does at the start of a text.
        """
        # SentencePiece takes user-defined pieces whole wherever it meets them: cut each after its first character.
        cuts = [0, *(match.start() + 1 for match in self._special.finditer(text)), len(text)]
        ids: list[int] = []
        for start, end in pairwise(cuts):
            part = text[start:end]
            ids += self._model.encode(part) if word_start and start == 0 else self._continue(part)
        return ids

    def _continue(self, text: str) -> list[int]:
        # A newline is a byte that merges with nothing, so it can stand where the `▁` goes.
        ids: list[int] = self._model.encode("\n" + text)
        return ids[len(self._newline) :]

    def audio_ids(self, tokens: list[int]) -> list[int]:
        """Map audio tokens of the value space 0 … 5119 to ids."""
        return [self.audio_offset + token for token in tokens]
