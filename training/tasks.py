"""What the language model is asked: cloning, and the edits for which the corpus has true pairs."""

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.tags import TAGS
from python_backend.llm import prompt as prompts
from python_backend.llm.tokenizer import Tokenizer
from training.pairs import LONGEST_PROMPT, Pairs, Spoken

SPEED = ("faster", "slower", "more faster", "more slower")
EMOTION = ("happy", "sad", "excited")
OTHER_LANGUAGE = 0.15  # of the cloned prompts
SHARES = {"clone": 0.56, "speed": 0.12, "emotion": 0.08, "style": 0.06, "denoise": 0.06, "vad": 0.06, "untrained": 0.06}
EDIT_GROUPS = 50  # longest clip to edit

Task = tuple[Sequence[int], Sequence[int]]


class Tasks:
    """Draws prompts with their answers.

    Args:
        pairs: clips of training.
        tokenizer: of the model.
    """

    def __init__(self, pairs: Pairs, tokenizer: Tokenizer):
        self.pairs, self.tokenizer = pairs, tokenizer
        self._sets = [takes for takes in pairs.sentence.values() if len(takes) > 1]
        self._neutral = [spoken for spoken in pairs.spoken if spoken.clip.manner == "neutral"]
        self._paused = [spoken for spoken in self._neutral if len(spoken.paused)]
        self._draw: dict[str, Callable[[np.random.Generator], Task | None]] = {
            "clone": self._clone,
            "speed": lambda generator: self._manner(generator, "speed", SPEED),
            "emotion": lambda generator: self._manner(generator, "emotion", EMOTION),
            "style": lambda generator: self._manner(generator, "style", ("whisper",)),
            "denoise": self._denoise,
            "vad": self._vad,
            "untrained": self._untrained,
        }

    def draw(self, generator: np.random.Generator) -> Task:
        """Return ids of a prompt and of the audio that answers it, without the end mark."""
        while True:
            kind = generator.choice(list(SHARES), p=list(SHARES.values()))
            if (task := self._draw[kind](generator)) is not None:
                return task

    def _clone(self, generator: np.random.Generator) -> Task:
        target = self.pairs.spoken[generator.integers(len(self.pairs.spoken))]
        prompt = self.pairs.prompt_for(generator, target)
        if target.clip.manner == "neutral" and generator.random() < OTHER_LANGUAGE:
            other = {"en": "zh", "zh": "en"}[target.clip.language]
            alike = self.pairs.alike[target.clip.voice, other, "neutral"]
            prompt = alike[generator.integers(len(alike))]
        heard = prompt.noisy if generator.random() < 0.2 else prompt.clean
        asked = prompts.clone_prompt(
            self.tokenizer, target.clip.text, prompt.clip.text, heard[: 5 * LONGEST_PROMPT].tolist()
        )
        return asked.ids, self._answer(target)

    def _manner(self, generator: np.random.Generator, mode: str, manners: Sequence[str]) -> Task | None:
        takes = self._sets[generator.integers(len(self._sets))]
        manner = str(generator.choice(list(manners)))
        source, target = takes["neutral"], takes[manner]
        if mode != "speed" and generator.random() < 0.2:
            source, target, manner = target, source, "remove"
        return self._edit(mode, manner, source, source.clean, target)

    def _denoise(self, generator: np.random.Generator) -> Task | None:
        source = self.pairs.spoken[generator.integers(len(self.pairs.spoken))]
        return self._edit("denoise", "", source, source.noisy, source)

    def _vad(self, generator: np.random.Generator) -> Task | None:
        source = self._paused[generator.integers(len(self._paused))]
        return self._edit("vad", "", source, source.paused, source)

    def _untrained(self, generator: np.random.Generator) -> Task | None:
        """Ask for what the corpus has no pairs of: the speech stays as it is."""
        source = self._neutral[generator.integers(len(self._neutral))]
        mode = str(generator.choice(["emotion", "style", "paralinguistic"]))
        if mode == "paralinguistic":
            words = re.split(r"(?<=[\s，。,])", source.clip.text)
            words.insert(int(generator.integers(len(words) + 1)), f"[{generator.choice(TAGS['paralinguistic'])}]")
            return self._edit(mode, "", source, source.clean, source, "".join(words))
        trained = {*EMOTION, "whisper", "remove"}
        tag = str(generator.choice([tag for tag in TAGS[mode] if tag not in trained]))
        return self._edit(mode, tag, source, source.clean, source)

    def _edit(
        self, mode: str, tag: str, source: Spoken, heard: NDArray[np.int32], target: Spoken, text: str = ""
    ) -> Task | None:
        if len(heard) > 5 * EDIT_GROUPS:
            return None
        instruction = prompts.edit_instruction(mode, source.clip.text, tag, text)
        return prompts.edit_prompt(self.tokenizer, instruction, heard.tolist()).ids, self._answer(target)

    def _answer(self, target: Spoken) -> list[int]:
        return self.tokenizer.audio_ids(target.clean.tolist())
