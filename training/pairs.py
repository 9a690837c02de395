"""Prompt and target side by side: what the flow and the language model learn from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from python_backend.token2wav.tokens import nearest_frames
from python_backend.token2wav.tokens import pairs as token_pairs
from python_backend.voice.mel import log_mel
from training import tokens
from training.dataset import Clip, Corpus

FRAMES_PER_GROUP = 6
VOCAB = 5121
LONGEST_PROMPT = 40  # groups, 4.8 s
LONGEST = 90  # groups of prompt and target
NOISY = 0.3
SILENCE = -11.5129  # the mel's floor


@dataclass(frozen=True)
class MelBatch:
    """A batch for the flow; G is its longest prompt and target together, in groups.

    Attributes:
        tokens: int64 [B, 3G, 2], pairs.
        mel: float32 [B, 6G, 80], without noise.
        prompt_mel: float32 [B, 6G, 80], of the prompt as it was heard, zeros after it.
        speaker: float32 [B, 192].
        lengths, prompts: int64 [B], groups in all and of the prompt.
    """

    tokens: NDArray[np.int64]
    mel: NDArray[np.float32]
    prompt_mel: NDArray[np.float32]
    speaker: NDArray[np.float32]
    lengths: NDArray[np.int64]
    prompts: NDArray[np.int64]


@dataclass(frozen=True)
class Spoken:
    """A clip with its tokens; `number` is its place in its shard."""

    clip: Clip
    number: int
    clean: NDArray[np.int32]
    noisy: NDArray[np.int32]
    paused: NDArray[np.int32]
    embedding: NDArray[np.float32]

    @property
    def groups(self) -> int:
        """How long it is."""
        return len(self.clean) // 5


class Pairs:
    """Training clips by voice, language and manner.

    Args:
        corpus: the speech.
        work: folder of its tokens.
        held_out: take the clips kept from training instead.
    """

    def __init__(self, corpus: Corpus, work: Path, held_out: bool = False):
        self.corpus = corpus
        self.spoken: list[Spoken] = []
        self.alike: dict[tuple[str, str, str], list[Spoken]] = {}
        self.sentence: dict[tuple[str, int], dict[str, Spoken]] = {}
        for shard in sorted({clip.shard for clip in corpus.clips}):
            heard = tokens.load(work, shard)
            for number, clip in enumerate(corpus.shard(shard)):
                if clip.held_out != held_out:
                    continue
                versions = (heard.clean[number], heard.noisy[number], heard.paused[number])
                spoken = Spoken(clip, number, *versions, heard.embeddings[number])
                self.spoken.append(spoken)
                self.alike.setdefault((clip.voice, clip.language, clip.manner), []).append(spoken)
                self.sentence.setdefault((shard, clip.sentence), {})[clip.manner] = spoken

    def prompt_for(self, generator: np.random.Generator, target: Spoken) -> Spoken:
        """Return another clip of the target's voice, language and manner, short enough for a prompt."""
        clip = target.clip
        others = self.alike[clip.voice, clip.language, clip.manner]
        for _ in range(20):
            prompt = others[generator.integers(len(others))]
            if prompt is not target and 8 <= prompt.groups <= LONGEST_PROMPT:
                return prompt
        return prompt

    def mel_batch(self, generator: np.random.Generator, count: int) -> MelBatch:
        """Draw targets with prompts; some prompts are noisy, and the target then is to be clean all the same."""
        rows: list[tuple[Spoken, Spoken, bool]] = []
        while len(rows) < count:
            target = self.spoken[generator.integers(len(self.spoken))]
            prompt = self.prompt_for(generator, target)
            if prompt.groups + target.groups <= LONGEST:
                rows.append((prompt, target, generator.random() < NOISY))
        size = max(prompt.groups + target.groups for prompt, target, _ in rows)
        batch = MelBatch(
            tokens=np.full((count, 3 * size, 2), 1024, dtype=np.int64),
            mel=np.full((count, FRAMES_PER_GROUP * size, 80), SILENCE, dtype=np.float32),
            prompt_mel=np.zeros((count, FRAMES_PER_GROUP * size, 80), dtype=np.float32),
            speaker=np.stack([prompt.embedding for prompt, _, _ in rows]),
            lengths=np.array([prompt.groups + target.groups for prompt, target, _ in rows]),
            prompts=np.array([prompt.groups for prompt, _, _ in rows]),
        )
        for row, (prompt, target, is_noisy) in enumerate(rows):
            first = self._heard(prompt, is_noisy)[: 5 * prompt.groups]
            groups = len(first) // 5
            batch.prompts[row], batch.lengths[row] = groups, groups + target.groups
            value = token_pairs("tokens", np.concatenate([first, target.clean]), VOCAB, LONGEST)
            batch.tokens[row, : len(value)] = value
            frames = FRAMES_PER_GROUP * groups
            batch.mel[row, :frames] = self._mel(prompt, groups, False)
            batch.prompt_mel[row, :frames] = self._mel(prompt, groups, is_noisy)
            mel = log_mel(self.corpus.waveform(target.clip))[:, : FRAMES_PER_GROUP * target.groups].T
            batch.mel[row, frames : frames + len(mel)] = mel
        return batch

    @staticmethod
    def _heard(spoken: Spoken, is_noisy: bool) -> NDArray[np.int32]:
        return spoken.noisy if is_noisy else spoken.clean

    def _mel(self, spoken: Spoken, groups: int, is_noisy: bool) -> NDArray[np.float32]:
        """Return the mel [6 * groups, 80] of a clip, aligned to its tokens as a prompt's is."""
        clip = spoken.clip
        noisy = tokens.noisy_waveform
        waveform = noisy(self.corpus, clip.shard, spoken.number) if is_noisy else self.corpus.waveform(clip)
        mel = log_mel(waveform)
        return mel[:, nearest_frames(mel.shape[1], FRAMES_PER_GROUP * groups)].T
