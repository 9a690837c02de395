"""`step-audio`: speak, edit and list voices on a Triton server from the command line."""

import os
import runpy
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from client.client import StepAudioClient, read_clip
from client.errors import ServerUnavailable, SpeechError
from client.load.command import load
from client.output import STDOUT, opened
from client.speech import (
    MODES_WITH_EDIT_INFO,
    MODES_WITH_TEXT,
    MODES_WITHOUT_TRANSCRIPT,
    Mode,
    Sampling,
    SpeechJob,
    SpeechResult,
)
from client.triton import DEFAULT_URL
from gateway.voices import UnknownVoice, VoiceLibrary

app = typer.Typer(help="Step-Audio-EditX on Triton.", no_args_is_help=True, add_completion=False)
app.command()(load)
errors = Console(stderr=True)

_INTERRUPTED = 130
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


class EditMode(StrEnum):
    """What an edit changes."""

    emotion = "emotion"
    style = "style"
    paralinguistic = "paralinguistic"
    speed = "speed"
    denoise = "denoise"
    vad = "vad"


Out = Annotated[
    Path,
    typer.Option("--out", "-o", help="File to write; its ending decides: wav, flac, mp3, ogg. - is a WAV to a pipe."),
]
Stream = Annotated[bool, typer.Option("--stream", help="Write each part as soon as it is made.")]
Raw = Annotated[bool, typer.Option("--raw", help="Write 16-bit samples (24 kHz, mono) without a header.")]
Url = Annotated[str, typer.Option(envvar="GATEWAY_TRITON_URL", help="Triton's gRPC end point.")]
Variant = Annotated[str, typer.Option(help="Weights: base, bnb or awq.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same speech.")]
Temperature = Annotated[float | None, typer.Option(min=0.0, help="Sampling temperature; unset: the model's own.")]


@app.command()
def speak(
    text: Annotated[str, typer.Argument(help="What to say.")],
    voice: Annotated[str | None, typer.Option(help="Built-in voice, see `step-audio voices`.")] = None,
    clip: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Recording of the voice, instead of a built-in one."),
    ] = None,
    transcript: Annotated[str, typer.Option(help="The words spoken in --clip.")] = "",
    out: Out = Path("out.wav"),
    stream: Stream = False,
    raw: Raw = False,
    seed: Seed = 0,
    temperature: Temperature = None,
    variant: Variant = "base",
    url: Url = DEFAULT_URL,
) -> None:
    """Say a text in a cloned voice."""
    with _failures_explained(url):
        if clip is None:
            named = _library().find(voice)
            recording, words = named.clip, named.prompt_text
        elif transcript.strip():
            recording, words = read_clip(clip), transcript
        else:
            raise typer.BadParameter("--clip needs --transcript, the words spoken in it")
        job = SpeechJob("clone", recording, words, text, sampling=Sampling(temperature, seed=seed), variant=variant)
        _synthesize(url, job, 1, out, stream=stream, raw=raw)


@app.command()
def edit(
    clip: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Recording to edit.")],
    mode: Annotated[EditMode, typer.Option(help="What to change.")],
    tag: Annotated[str, typer.Option(help="Emotion, style or speed, such as happy, whisper, faster.")] = "",
    transcript: Annotated[str, typer.Option(help="The words spoken in the recording.")] = "",
    text: Annotated[str, typer.Option(help="paralinguistic: the words with tags such as [Laughter].")] = "",
    intensity: Annotated[float, typer.Option(min=0.1, max=3.0, help="Strength; 1 is the model's own.")] = 1.0,
    passes: Annotated[int, typer.Option(min=1, max=4, help="Repeat the edit on its own output.")] = 1,
    out: Out = Path("out.wav"),
    stream: Stream = False,
    raw: Raw = False,
    seed: Seed = 0,
    temperature: Temperature = None,
    variant: Variant = "base",
    url: Url = DEFAULT_URL,
) -> None:
    """Change emotion, style or speed of a recording, add sounds, or clean it."""
    kind: Mode = mode.value
    if kind in MODES_WITH_EDIT_INFO and not tag:
        raise typer.BadParameter(f"--mode {kind} needs --tag")
    if kind not in MODES_WITHOUT_TRANSCRIPT and not transcript.strip():
        raise typer.BadParameter(f"--mode {kind} needs --transcript, the words spoken in the recording")
    if kind in MODES_WITH_TEXT and not text.strip():
        raise typer.BadParameter(f"--mode {kind} needs --text, the new words with their tags")
    with _failures_explained(url):
        sampling = Sampling(temperature, seed=seed)
        job = SpeechJob(kind, read_clip(clip), transcript, text, tag, intensity, sampling, variant)
        _synthesize(url, job, passes, out, stream=stream, raw=raw)


@app.command()
def voices() -> None:
    """List the built-in voices."""
    table = Table("voice", "language", "description", "words spoken in its recording")
    for voice in _library():
        table.add_row(voice.id, voice.locale, voice.description, voice.prompt_text)
    Console().print(table)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def serve(context: typer.Context) -> None:
    """Start Triton and the gateway (`python -m server`)."""
    _run_module("server", context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def export(context: typer.Context) -> None:
    """Make Triton's model files from a checkpoint (`python -m export`)."""
    _run_module("export", context.args)


def _run_module(name: str, arguments: list[str]) -> None:
    sys.argv = [f"python -m {name}", *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _library() -> VoiceLibrary:
    return VoiceLibrary()


def _synthesize(url: str, job: SpeechJob, passes: int, out: Path, *, stream: bool, raw: bool) -> None:
    doing = "speaking" if job.mode == "clone" else "editing"
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    started = time.perf_counter()
    with StepAudioClient(url) as client, ExitStack() as stack:
        parts = stack.enter_context(closing(client.stream(job, passes) if stream else _whole(client, job, passes)))
        with Progress(*columns, console=errors, transient=True) as progress:
            progress.add_task(doing)
            part = first = next(parts)
        waited = time.perf_counter() - started
        append = stack.enter_context(opened(out, first.clip.sample_rate, raw=raw))
        append(first.clip.waveform)
        seconds = first.clip.seconds
        if stream:
            errors.print(f"first audio after {waited:.3f} s", highlight=False)
        for part in parts:
            append(part.clip.waveform)
            seconds += part.clip.seconds
    spent = time.perf_counter() - started
    cut = ", cut where its token budget ended" if part.finish_reason == "length" else ""
    name, console = ("speech", errors) if out == STDOUT else (out, Console())
    console.print(f"{name}: {seconds:.2f} s of speech in {spent:.2f} s{cut}", highlight=False)


def _whole(client: StepAudioClient, job: SpeechJob, passes: int) -> Generator[SpeechResult, None, None]:
    yield client.synthesize(job, passes)


@contextmanager
def _failures_explained(url: str) -> Iterator[None]:
    try:
        yield
    except ServerUnavailable as error:
        _fail(f"no speech server serves at {url}; start one with `step-audio serve`, or name one with --url\n({error})")
    except SpeechError as error:
        _fail(str(error))
    except UnknownVoice as error:
        _fail(str(error.args[0]))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python fails once more when it ends
        _fail("whoever read the speech has left")
    except KeyboardInterrupt:
        errors.print("withdrawn")
        raise typer.Exit(_INTERRUPTED) from None


def _fail(message: str) -> None:
    errors.print(f"[red]error:[/red] {message}", highlight=False)
    raise typer.Exit(1)
