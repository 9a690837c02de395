"""The recogniser: SenseVoice learns the corpus by CTC, and by its known phones so that it learns soon."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from export.demo.recognizer import MELS, QUERY_ROWS, STACK, STRIDE, RecognizerSizes, write_pieces
from export.sense_voice import QUERIES, SenseVoice, SenseVoiceFeatures
from export.sense_voice_encoder import SenseVoiceEncoder
from python_backend.asr.queries import AUTO, LANGUAGES, TEXT_NORMS
from python_backend.asr.words import BLANK
from training.corpus import mandarin
from training.dataset import Clip, Corpus, padded
from training.linguistic import FRAME_CENTRE, FRAME_SECONDS, heard, normalisation
from training.loop import Schedule, train

SIZES = RecognizerSizes(width=128, heads=4, units=256, blocks=3, more_blocks=2, kernel=11)
TOKENS = "recognizer.model"
ENGLISH_PIECES = 400  # fewer would come faster than CTC's 16.7 frames/s can carry in fast speech
SCHEDULE = Schedule(steps=6000, rate=2e-3, warmup=300)
BATCH = 24
LONGEST_FRAMES = 1004  # 60 s and the queries
PHONE_WEIGHT = 0.5
QUERY_WEIGHT = 0.2
ASKED = 0.3  # of the clips whose language is told
QUIETEST = 0.03  # of full level; the recogniser hears clips as they are
WIDEST_BAND = 12  # mel bins that a clip may lack (SpecAugment; Park et al., 2019)


@dataclass(frozen=True)
class Batch:
    """Clips with what they say, on the CPU.

    Attributes:
        audio, lengths: float32 [B, N] at 16 kHz, int64 [B, 1] samples.
        language: int32 [B, 1], row of the query.
        tokens, sizes: int64 of all clips one after another, and how many each has [B].
        answers: int64 [B, 4], of the query frames.
        phones: int64 [B, T], at each frame of speech.
        heard: float32 [B, 1, 1, 80], 0 for the mel bins that are kept from the network.
    """

    audio: Tensor
    lengths: Tensor
    language: Tensor
    tokens: Tensor
    sizes: Tensor
    answers: Tensor
    phones: Tensor
    heard: Tensor


class Tokens:
    """The pieces of the recogniser."""

    def __init__(self, path: Path):
        self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.size = int(self._processor.get_piece_size())

    def encode(self, clip: Clip) -> list[int]:
        """Return what CTC is to find in a clip."""
        # The unknown piece is CTC's blank, and the mark of a word's start stands before no character.
        processor = self._processor
        if clip.language == "en":
            found: list[int] = processor.encode(clip.spoken, out_type=int)
        else:
            found = [processor.piece_to_id(character) for character in clip.spoken]
        return [token for token in found if token != BLANK]

    def pieces(self) -> list[str]:
        """Return all of them by id."""
        return [self._processor.id_to_piece(piece) for piece in range(self.size)]

    def tag(self, name: str) -> int:
        """Return the id of a tag."""
        return int(self._processor.piece_to_id(f"<|{name}|>"))


class Recognizer(nn.Module):
    """The network with a classifier for phones, which is dropped after training."""

    def __init__(self, tokens: int, phones: int, shift: Tensor, scale: Tensor):
        super().__init__()
        self.network = build(tokens, shift.cpu().numpy(), scale.cpu().numpy())
        self.classifier = nn.Linear(SIZES.width, phones)


def build(tokens: int, shift: NDArray[np.float32], scale: NDArray[np.float32]) -> SenseVoice:
    """Make the network for features that are moved and scaled like that, float32 [560] each."""
    features = SenseVoiceFeatures(MELS, STACK, STRIDE, shift, scale)
    encoder = SenseVoiceEncoder(
        MELS * STACK,
        SIZES.width,
        SIZES.heads,
        SIZES.units,
        SIZES.blocks,
        SIZES.more_blocks,
        SIZES.kernel,
        longest=LONGEST_FRAMES,
    )
    return SenseVoice(features, encoder, QUERY_ROWS, tokens)


def write_tokens(path: Path, texts: Iterable[str]) -> None:
    """Write the SentencePiece model: pieces learnt from the English `texts`, and Mandarin's characters."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=ENGLISH_PIECES,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
    )
    learnt = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    english = [
        (learnt.id_to_piece(piece), learnt.get_score(piece))
        for piece in range(learnt.get_piece_size())
        if not learnt.is_control(piece) and not learnt.is_unknown(piece)
    ]
    write_pieces(path, [*english, *((character, -10.0) for character in mandarin.characters())])


def run(corpus: Corpus, folder: Path, device: torch.device, effort: float = 1.0) -> None:
    """Train the recogniser; leaves `recognizer.model` and `recognizer.pt` in `folder`."""
    clips = corpus.training()
    write_tokens(folder / TOKENS, (clip.spoken for clip in clips if clip.language == "en"))
    tokens = Tokens(folder / TOKENS)
    zeros, ones = np.zeros(MELS * STACK, dtype=np.float32), np.ones(MELS * STACK, dtype=np.float32)
    shift, scale = normalisation(SenseVoiceFeatures(MELS, STACK, STRIDE, zeros, ones).to(device), corpus, clips)
    network = Recognizer(tokens.size, len(corpus.phones), shift, scale).to(device)

    def draw(step: int) -> Batch:
        generator = np.random.default_rng(step)
        batch = [clips[index] for index in generator.integers(len(clips), size=BATCH)]
        return _batch(corpus, tokens, batch, generator)

    def loss(batch: Batch, _step: int) -> dict[str, Tensor]:
        return losses(network, batch, device)

    train(network, draw, loss, SCHEDULE.scaled(effort), folder, "recognizer", device)
    state = {"network": network.network.state_dict(), "shift": shift.cpu(), "scale": scale.cpu()}
    torch.save(state, folder / "recognizer.pt")


def _batch(corpus: Corpus, tokens: Tokens, clips: list[Clip], generator: np.random.Generator) -> Batch:
    levels = QUIETEST ** generator.random(len(clips), dtype=np.float32)
    audio, lengths = padded([heard(corpus, clip, generator) * level for clip, level in zip(clips, levels, strict=True)])
    bands = np.ones((len(clips), 1, 1, MELS), dtype=np.float32)
    for row in bands:
        first = generator.integers(MELS)
        row[..., first : first + generator.integers(WIDEST_BAND + 1)] = 0.0
    targets = [tokens.encode(clip) for clip in clips]
    same = [tokens.tag("NEUTRAL"), tokens.tag("Speech"), tokens.tag("woitn")]
    times = np.arange(audio.shape[1] // int(16_000 * FRAME_SECONDS) + 8) * FRAME_SECONDS + FRAME_CENTRE
    asked = [LANGUAGES[clip.language] if generator.random() < ASKED else AUTO for clip in clips]
    return Batch(
        audio=audio,
        lengths=lengths,
        language=torch.tensor(asked)[:, None],
        tokens=torch.tensor([token for target in targets for token in target]),
        sizes=torch.tensor([len(target) for target in targets]),
        answers=torch.tensor([[tokens.tag(clip.language), *same] for clip in clips]),
        phones=torch.from_numpy(np.stack([corpus.labels(clip, times) for clip in clips])),
        heard=torch.from_numpy(bands),
    )


def losses(network: Recognizer, batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """Compare words, answers to the queries and phones with the truth."""
    audio, lengths, language, answers, phones = (
        value.to(device) for value in (batch.audio, batch.lengths, batch.language, batch.answers, batch.phones)
    )
    model = network.network
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        features, counts = model.features(audio, lengths, torch.ones(len(audio), 1, device=device))
        features = (features.unflatten(2, (STACK, MELS)) * batch.heard.to(device)).flatten(2)
    encoded = model.encode_features(features, counts, language, torch.full_like(language, TEXT_NORMS["woitn"]))
    logits = model.ctc_lo(encoded).float()
    speech = logits[:, QUERIES:].log_softmax(dim=2)
    words = F.ctc_loss(
        speech.transpose(0, 1),
        batch.tokens.to(device),
        counts[:, 0],
        batch.sizes.to(device),
        blank=BLANK,
        zero_infinity=True,
    )
    frames = speech.shape[1]
    present = torch.arange(frames, device=device) < counts
    heard_phones = network.classifier(encoded[:, QUERIES:][present])
    return {
        "words": words,
        "queries": QUERY_WEIGHT * F.cross_entropy(logits[:, :QUERIES].flatten(0, 1), answers.flatten()),
        "phones": PHONE_WEIGHT * F.cross_entropy(heard_phones, phones[:, :frames][present]),
    }
