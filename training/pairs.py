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
from training.mels import Mels

FRAMES_PER_GROUP = 6
VOCAB = 5121
SHORTEST_PROMPT, LONGEST_PROMPT = 8, 48  # groups, 1 and 5.8 s
LONGEST = 96  # groups of prompt and target
NOISY = 0.3
OTHER_MANNER, OTHER_LANGUAGE = 0.3, 0.15  # of the targets: what an edit or a clone across languages asks of the flow
GAIN = (0.2, 1.5)  # the level of a prompt is its speaker's choice, and what is made after it has the same
SILENCE = -11.5129  # the mel's floor
CANDIDATES = 6  # drawn for each row of a batch, so that its rows can be about as long as one another


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
    noisy_embedding: NDArray[np.float32]

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
        self.corpus, self.mels = corpus, Mels(corpus, work)
        self.spoken: list[Spoken] = []
        self.alike: dict[tuple[str, str, str], list[Spoken]] = {}
        self.sentence: dict[tuple[str, int], dict[str, Spoken]] = {}
        for shard in sorted({clip.shard for clip in corpus.clips}):
            heard = tokens.load(work, shard)
            for number, clip in enumerate(corpus.shard(shard)):
                if clip.held_out != held_out:
                    continue
                versions = (heard.clean[number], heard.noisy[number], heard.paused[number])
                embeddings = (heard.embeddings[number], heard.noisy_embeddings[number])
                spoken = Spoken(clip, number, *versions, *embeddings)
                self.spoken.append(spoken)
                self.alike.setdefault((clip.voice, clip.language, clip.manner), []).append(spoken)
                self.sentence.setdefault((shard, clip.sentence), {})[clip.manner] = spoken

    def prompt_for(self, generator: np.random.Generator, target: Spoken) -> Spoken:
        """Return another clip of the target's voice, language and manner, short enough for a prompt."""
        clip = target.clip
        others = self.alike[clip.voice, clip.language, clip.manner]
        for _ in range(20):
            prompt = others[generator.integers(len(others))]
            if prompt is not target and SHORTEST_PROMPT <= prompt.groups <= LONGEST_PROMPT:
                return prompt
        return prompt

    def heard_before(self, generator: np.random.Generator, target: Spoken) -> Spoken:
        """Return a clip of the target's voice that the flow may have for a prompt, in an edit too."""
        clip, chance = target.clip, generator.random()
        takes = list(self.sentence[clip.shard, clip.sentence].values())
        if chance < OTHER_MANNER and len(takes) > 1:
            return takes[generator.integers(len(takes))]
        other = self.alike.get((clip.voice, {"en": "zh", "zh": "en"}[clip.language], clip.manner))
        if chance > 1 - OTHER_LANGUAGE and other:
            return other[generator.integers(len(other))]
        return self.prompt_for(generator, target)

    def mel_batch(self, generator: np.random.Generator, groups: int) -> MelBatch:
        """Draw targets with prompts, of about the same length and at most so many `groups` in all with the padding.

        Some prompts are noisy, and what is made of their tokens and after them is to be clean all the same.
        """
        candidates: list[tuple[int, Spoken, Spoken]] = []
        while len(candidates) < CANDIDATES * groups // LONGEST:
            target = self.spoken[generator.integers(len(self.spoken))]
            prompt = self.heard_before(generator, target)
            if (length := prompt.groups + target.groups) <= LONGEST:
                candidates.append((length, prompt, target))
        candidates.sort(key=lambda row: row[0])
        last = int(generator.integers(len(candidates)))
        size = candidates[last][0]
        rows = candidates[max(0, last + 1 - groups // size) : last + 1]
        return self._assemble(generator, [(prompt, target) for _, prompt, target in rows], size)

    def _assemble(self, generator: np.random.Generator, rows: list[tuple[Spoken, Spoken]], size: int) -> MelBatch:
        count, frames = len(rows), FRAMES_PER_GROUP * size
        batch = MelBatch(
            tokens=np.full((count, 3 * size, 2), 1024, dtype=np.int64),
            mel=np.full((count, frames, 80), SILENCE, dtype=np.float32),
            prompt_mel=np.zeros((count, frames, 80), dtype=np.float32),
            speaker=np.zeros((count, 192), dtype=np.float32),
            lengths=np.zeros(count, dtype=np.int64),
            prompts=np.zeros(count, dtype=np.int64),
        )
        for row, (prompt, target) in enumerate(rows):
            is_noisy = generator.random() < NOISY
            heard = prompt.noisy if is_noisy else prompt.clean
            # The tokens of a noisy clip may be a group more or less than those of the clean one.
            groups = min(len(heard) // 5, prompt.groups)
            batch.prompts[row], batch.lengths[row] = groups, groups + target.groups
            value = token_pairs("tokens", np.concatenate([heard[: 5 * groups], target.clean]), VOCAB, LONGEST)
            batch.tokens[row, : len(value)] = value
            batch.speaker[row] = prompt.noisy_embedding if is_noisy else prompt.embedding
            gain, clean = np.log(generator.uniform(*GAIN)), self.mels.mel(prompt.clip)
            given = self._noisy_mel(prompt) if is_noisy else clean
            first = FRAMES_PER_GROUP * groups
            batch.prompt_mel[row, :first] = _louder(given[nearest_frames(len(given), first)], gain)
            batch.mel[row, :first] = _louder(clean[nearest_frames(len(clean), first)], gain)
            wanted = self.mels.mel(target.clip)[: FRAMES_PER_GROUP * target.groups]
            batch.mel[row, first : first + len(wanted)] = _louder(wanted, gain)
        return batch

    def _noisy_mel(self, spoken: Spoken) -> NDArray[np.float32]:
        return log_mel(tokens.noisy_waveform(self.corpus, spoken.clip.shard, spoken.number)).T


def _louder(mel: NDArray[np.float32], gain: float) -> NDArray[np.float32]:
    return np.maximum(mel + np.float32(gain), np.float32(SILENCE))
