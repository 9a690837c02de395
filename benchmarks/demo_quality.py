"""How well the demo checkpoint speaks, hears and edits, against its bars: `python -m benchmarks.demo_quality`.

Texts and voices are combined as they never were in training, and the recogniser never heard generated speech. Needs
the extra `train` and espeak-ng. Runs the system's own classes in this process, without a server.
"""

import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from pocketsphinx import Decoder
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import demo_measures as measures
from benchmarks.demo_machine import Demo, Speech, repository
from benchmarks.demo_pictures import save_pictures
from benchmarks.demo_trials import EDITS, Clone, Edit, Trials, expected_rate
from python_backend.llm.request import SpeechRequest
from python_backend.voice.resample import resample
from training.card import FIGURES
from training.corpus.voices import Language

RATE, SPHINX_RATE = 24_000, 16_000
REACH = 480  # samples on both sides of a seam that count as the seam
QUIETEST, LOUDEST = -35.0, -10.0  # decibels of full scale, root mean square of the speech
SEAM_NEAR, MEL_NEAR = 1.0, 1.1

Waveform = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    measure: str
    found: float
    bar: float
    at_most: bool = True

    @property
    def holds(self) -> bool:
        """Whether the bar is met."""
        return self.found <= self.bar if self.at_most else self.found >= self.bar


@dataclass
class Rate:
    """Errors of so many symbols."""

    errors: int = 0
    symbols: int = 0

    def add(self, errors: int, symbols: int) -> None:
        """Count one transcript."""
        self.errors += errors
        self.symbols += symbols

    @property
    def percent(self) -> float:
        """The error rate."""
        return 100 * self.errors / max(1, self.symbols)


@dataclass
class Found:
    """What the trials gave."""

    offline: defaultdict[str, Rate] = field(default_factory=lambda: defaultdict(Rate))
    streamed: defaultdict[str, Rate] = field(default_factory=lambda: defaultdict(Rate))
    true: defaultdict[str, Rate] = field(default_factory=lambda: defaultdict(Rate))
    sphinx: Rate = field(default_factory=Rate)
    sphinx_true: Rate = field(default_factory=Rate)
    ended: list[bool] = field(default_factory=list)
    in_time: list[bool] = field(default_factory=list)
    same_voice: list[bool] = field(default_factory=list)
    clean: list[bool] = field(default_factory=list)
    calm_seams: list[bool] = field(default_factory=list)
    near: list[float] = field(default_factory=list)
    away: list[float] = field(default_factory=list)
    edits: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    edited: defaultdict[str, Rate] = field(default_factory=lambda: defaultdict(Rate))
    unedited: defaultdict[str, Rate] = field(default_factory=lambda: defaultdict(Rate))
    pictures: list[tuple[str, Waveform, Waveform]] = field(default_factory=list)


class Judge:
    """Runs trials and notes what comes of them."""

    def __init__(self, demo: Demo, centroids: dict[str, list[Waveform]]):
        self.found = Found()
        self._demo = demo
        self._names = list(centroids)
        means = [np.mean([self._direction(clip) for clip in clips], axis=0) for clips in centroids.values()]
        self._centroids = np.stack(means)
        self._sphinx = Decoder(samprate=SPHINX_RATE, loglevel="FATAL")

    def clone(self, trial: Clone) -> None:
        """Speak a text in a voice, whole and streamed."""
        found, demo, take = self.found, self._demo, trial.wanted.take
        voice = demo.hear(trial.prompt.waveform)
        request = SpeechRequest("clone", voice.prompt_tokens.tolist(), take.text, trial.prompt.take.text)
        made = demo.speak(voice, request)
        streamed, seams = demo.stream(voice, made.tokens)
        self._speech(made, trial)
        self._words(found.offline, take.language, made.waveform, take.spoken)
        self._words(found.streamed, take.language, streamed, take.spoken)
        self._words(found.true, take.language, trial.wanted.waveform, take.spoken)
        if take.language is Language.english:
            for rate, waveform in ((found.sphinx, made.waveform), (found.sphinx_true, trial.wanted.waveform)):
                said = self._by_sphinx(waveform)
                rate.add(measures.word_errors(said, take.spoken), len(take.spoken.split()))
        scores = self._centroids @ self._direction(made.waveform)
        found.same_voice.append(self._names[int(scores.argmax())] == take.voice.name)
        if seams:
            near, away = measures.largest_steps(streamed, seams, REACH)
            found.calm_seams.append(near <= SEAM_NEAR * away)
            distances = measures.mel_distance(streamed, made.waveform, seams, REACH)
            found.near.append(distances[0])
            found.away.append(distances[1])
        found.pictures.append((f"{take.voice.name}: {take.text}", trial.wanted.waveform, made.waveform))

    def edit(self, trial: Edit) -> None:
        """Edit a clip."""
        take, demo = trial.source.take, self._demo
        voice = demo.hear(trial.heard)
        made = demo.speak(voice, SpeechRequest(trial.mode, voice.prompt_tokens.tolist(), "", take.text, trial.tag))
        waveform, heard = made.waveform, trial.heard
        name = trial.tag or trial.mode
        match trial.mode:
            case "speed":
                grew = len(waveform) > len(heard)
                self.found.edits[name].append(grew == (expected_rate(trial.tag) < 1))
            case "vad":
                added = (len(heard) - len(trial.source.waveform)) / RATE
                kept = max(0.0, measures.pauses(waveform) - measures.pauses(trial.source.waveform))
                self.found.edits[name].append(1 - min(1.0, kept / added))
            case "denoise":
                self.found.edits[name].append(measures.signal_to_noise(waveform) - measures.signal_to_noise(heard))
            case "style":
                self.found.edits[name].append(measures.unvoiced_share(waveform))
        self._words(self.found.edited, name, waveform, take.spoken)
        self._words(self.found.unedited, name, heard, take.spoken)

    def _speech(self, made: Speech, trial: Clone) -> None:
        waveform = made.waveform
        self.found.ended.append(made.ended)
        self.found.in_time.append(0.7 <= len(waveform) / len(trial.wanted.waveform) <= 1.5)
        level = 10 * float(np.log10(np.square(waveform).mean() + 1e-10))
        self.found.clean.append(
            QUIETEST <= level <= LOUDEST
            and measures.direct_current(waveform) < 0.02
            and measures.clipped_share(waveform) < 1e-4
            and measures.clicks(waveform) == 0
        )

    def _words(self, rates: defaultdict[str, Rate], key: str, waveform: Waveform, wanted: str) -> None:
        said = self._demo.transcribe(waveform).lower()
        rates[key].add(measures.errors(said.replace(" ", ""), wanted.replace(" ", "")), len(wanted.replace(" ", "")))

    def _by_sphinx(self, waveform: Waveform) -> str:
        speech = resample(waveform, RATE, SPHINX_RATE)
        self._sphinx.start_utt()
        self._sphinx.process_raw((speech * 32767).astype(np.int16).tobytes(), no_search=False, full_utt=True)
        self._sphinx.end_utt()
        best = self._sphinx.hyp()
        return best.hypstr if best else ""

    def _direction(self, waveform: Waveform) -> NDArray[np.float32]:
        embedding = self._demo.hear(waveform).speaker_embedding
        return embedding / np.linalg.norm(embedding)


def rows(found: Found) -> list[Row]:
    """Return every bar with what was found."""

    def share(values: list[bool]) -> float:
        return 100 * float(np.mean(values))

    table = []
    for language, bar in ((Language.english, 15.0), (Language.mandarin, 20.0)):
        rate, streamed = found.offline[language].percent, found.streamed[language].percent
        table += [
            Row(f"{language}: characters wrong, %", rate, bar),
            Row(f"{language}: streamed less offline, points", streamed - rate, 2.0),
            Row(f"{language}: characters wrong in espeak-ng's own, %", found.true[language].percent, bar),
        ]
    gap = found.sphinx.percent - found.sphinx_true.percent
    table += [
        Row("en: words wrong by pocketsphinx, points above espeak-ng's own", gap, 10.0),
        Row("ends by itself, %", share(found.ended), 98.0, at_most=False),
        Row("0.7 to 1.5 times espeak-ng's duration, %", share(found.in_time), 98.0, at_most=False),
        Row("voice recognised among twelve, %", share(found.same_voice), 90.0, at_most=False),
        Row("level, no DC, no clipping, no clicks, %", share(found.clean), 100.0, at_most=False),
        Row("largest step at seams no more than elsewhere, %", share(found.calm_seams), 100.0, at_most=False),
    ]
    if found.away:
        ratio = float(np.mean(found.near)) / max(1e-9, float(np.mean(found.away)))
        table.append(Row("mel distance to offline, at seams over elsewhere", ratio, MEL_NEAR))
    bars = {"vad": 0.8, "denoise": 10.0, "whisper": 0.8}
    for mode, tag in EDITS:
        name = tag or mode
        measured = float(np.mean(found.edits[name]))
        table += [
            Row(f"{name}: as asked", measured, bars.get(name, 0.95), at_most=False),
            Row(
                f"{name}: characters wrong, points more", found.edited[name].percent - found.unedited[name].percent, 10
            ),
        ]
    return table


def main(
    checkpoint: Annotated[Path, typer.Option(help="The trained checkpoint.")] = Path("checkpoints/demo"),
    count: Annotated[int, typer.Option(min=1, help="Utterances of each language.")] = 150,
    edits: Annotated[int, typer.Option(min=1, help="Trials of each edit.")] = 40,
    pictures: Annotated[Path | None, typer.Option(help="Folder for spectrograms of ten outputs.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    figures: Annotated[bool, typer.Option(help="Leave the table beside the checkpoint, for its model card.")] = False,
) -> None:
    """Measure and print one table."""
    torch.set_num_threads(threads)
    trials = Trials(seed=1)
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(repository(checkpoint, Path(folder)), threads)
        judge = Judge(demo, trials.centroids())
        for language in Language:
            for clone in track(trials.clones(language, count), f"clone {language}", count):
                judge.clone(clone)
        for edit in track(trials.edits(edits), "edits", edits * len(EDITS)):
            judge.edit(edit)
        demo.close()
    table = rows(judge.found)
    if pictures:
        save_pictures(judge.found.pictures, pictures)
    shown = Table("measure", "found", "bar", "holds")
    for row in table:
        shown.add_row(row.measure, f"{row.found:.2f}", f"{'≤' if row.at_most else '≥'} {row.bar:g}", _word(row))
    Console().print(shown)
    if figures:
        (checkpoint / FIGURES).write_text(markdown(table), encoding="utf-8")


def markdown(table: list[Row]) -> str:
    """Return the table as Markdown."""
    lines = ["| measure | found | bar | holds |", "|---|---|---|---|"]
    for row in table:
        bar = f"{'≤' if row.at_most else '≥'} {row.bar:g}"
        lines.append(f"| {row.measure} | {row.found:.2f} | {bar} | {_word(row)} |")
    return "\n".join(lines) + "\n"


def _word(row: Row) -> str:
    return "yes" if row.holds else "no"


if __name__ == "__main__":
    typer.run(main)
