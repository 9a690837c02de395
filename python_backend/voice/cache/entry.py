"""What the cache keeps of one voice, and its form as bytes."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

CHECKSUM = "checksum"


class Damaged(ValueError):
    """Bytes that are not the entry they should be."""


@dataclass(frozen=True)
class Entry:
    """A voice as `voice_encoder` answers it.

    Attributes:
        prompt_tokens: int32 [5g].
        prompt_mel: float32 [80, T].
        speaker_embedding: float32 [192].
        clip_md5: names the clip in log lines, 32 hexadecimal digits.
        encode_seconds: what encoding took, which every hit saves.
    """

    prompt_tokens: NDArray[np.int32]
    prompt_mel: NDArray[np.float32]
    speaker_embedding: NDArray[np.float32]
    clip_md5: str
    encode_seconds: float

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.prompt_tokens.nbytes + self.prompt_mel.nbytes + self.speaker_embedding.nbytes

    def to_bytes(self, key: str) -> bytes:
        """Return a safetensors file. One of its tensors is the SHA-256 of `key` and of all others."""
        tensors: dict[str, NDArray[Any]] = {
            "prompt_tokens": self.prompt_tokens,
            "prompt_mel": self.prompt_mel,
            "speaker_embedding": self.speaker_embedding,
            "clip_md5": np.frombuffer(bytes.fromhex(self.clip_md5), np.uint8),
            "encode_seconds": np.array([self.encode_seconds], np.float64),
        }
        tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
        return save(tensors | {CHECKSUM: _checksum(key, tensors)})

    @classmethod
    def from_bytes(cls, key: str, data: bytes) -> "Entry":
        """Read what `to_bytes` made for the same `key`.

        Raises:
            Damaged: anything in it has changed.
        """
        try:
            tensors = load(data)
            found = tensors.pop(CHECKSUM)
        except Exception as error:  # whatever a reader may stumble over
            raise Damaged(f"not a voice: {type(error).__name__}: {error}") from error
        if not np.array_equal(found, _checksum(key, tensors)):
            raise Damaged("its checksum is wrong")
        return cls(
            prompt_tokens=tensors["prompt_tokens"],
            prompt_mel=tensors["prompt_mel"],
            speaker_embedding=tensors["speaker_embedding"],
            clip_md5=tensors["clip_md5"].tobytes().hex(),
            encode_seconds=tensors["encode_seconds"].item(),
        )


def _checksum(key: str, tensors: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
    digest = hashlib.sha256(key.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        digest.update(value.data)
    return np.frombuffer(digest.digest(), np.uint8)
