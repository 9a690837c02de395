"""Computing prompts, chunk by chunk, from the longest beginning that is known."""

from python_backend.llm.prefix_cache import PrefixCache
from python_backend.llm.runner import Runner
from python_backend.llm.sequence import Sequence


class Prefiller:
    """Brings sequences from their prompt to their first token.

    Chunks end where the prefix ends, so a prompt takes the same steps, and gives the same numbers, whether its prefix
    was kept or is computed.

    Args:
        chunk: ids computed at once, the longest pause a running stream sees.
    """

    def __init__(self, runner: Runner, prefixes: PrefixCache, chunk: int):
        self._runner = runner
        self._prefixes = prefixes
        self._chunk = chunk

    def advance(self, sequence: Sequence) -> None:
        """Compute the next chunk of the prompt; after the last one, choose the first token."""
        prompt = sequence.generation.prompt
        prefix = prompt.ids[: prompt.prefix_length]
        if sequence.computed == 0 and self._prefixes.load(prefix, sequence.slot):
            sequence.computed = len(prefix)
        part_end = len(prefix) if sequence.computed < len(prefix) else len(prompt.ids)
        end = min(sequence.computed + self._chunk, part_end)
        hidden = self._runner.prefill(sequence.slot, prompt.ids[sequence.computed : end], sequence.computed)
        sequence.computed = end
        if end == len(prefix):
            self._prefixes.store(prefix, sequence.slot)
        if end == len(prompt.ids):
            sequence.accept(self._runner.first(hidden, sequence))
