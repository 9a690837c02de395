"""SenseVoice as a graph: 16 kHz waveform → the most likely token of every frame, 16.67 frames per second."""

from pathlib import Path

import sentencepiece
import torch
from torch import Tensor, nn

from export.checkpoint import (
    RECOGNIZER_TOKENS,
    Checkpoint,
    CheckpointError,
    check_config,
    kaldi_cmvn,
    plain_yaml,
    state_dict,
)
from export.features import FRAME_LENGTH, FRAME_SHIFT, SAMPLE_RATE
from export.graph import save_graph
from export.linguistic_features import CHUNK, LinguisticFeatures
from export.sense_voice_encoder import SenseVoiceEncoder

LONGEST_SECONDS = 60
QUERIES = 4  # frames in front of the speech, which the network answers with language, emotion, event and text form
EMOTION_QUERY, EVENT_QUERY = 1, 2  # rows of the query embedding; FunASR writes them into its code

# What the code takes for granted; another value would need other code.
EXPECTED = {
    "model": "SenseVoiceSmall",
    "encoder": "SenseVoiceEncoderSmall",
    "encoder_conf": {
        "normalize_before": True,
        "sanm_shfit": 0,
        "selfattention_layer_type": "sanm",
    },
    "frontend": "WavFrontend",
    "frontend_conf": {"fs": SAMPLE_RATE, "window": "hamming", "frame_length": 25, "frame_shift": 10},
}


class SenseVoiceFeatures(LinguisticFeatures):
    """FunASR's front end for whole clips (`WavFrontend`): a frame for every begun stride of filterbank frames."""

    def frame_count(self, length: Tensor) -> Tensor:
        """Return the frames of `length` samples; a clip shorter than one filterbank frame counts as one."""
        fbank = ((length - FRAME_LENGTH) // FRAME_SHIFT).clamp(min=0) + 1
        return (fbank + self.stride - 1) // self.stride


class SenseVoice(nn.Module):
    """Features, query embeddings, encoder and CTC layer in one network.

    Args:
        features: makes the encoder's input.
        encoder: the SANM encoder.
        queries: rows of the query embedding.
        vocabulary: tokens, the blank (0) among them.
    """

    def __init__(self, features: SenseVoiceFeatures, encoder: SenseVoiceEncoder, queries: int, vocabulary: int):
        super().__init__()
        self.features, self.encoder = features, encoder
        self.embed = nn.Embedding(queries, features.shift.numel())
        self.ctc_lo = nn.Linear(encoder.size, vocabulary)

    def encode(
        self, audio: Tensor, audio_length: Tensor, language: Tensor, text_norm: Tensor, dither: Tensor
    ) -> Tensor:
        """Return the encoder's output, float32 [B, T, size], for `forward`'s inputs."""
        features, count = self.features(audio, audio_length.long(), dither)
        return self.encode_features(features, count, language, text_norm)

    def encode_features(self, features: Tensor, count: Tensor, language: Tensor, text_norm: Tensor) -> Tensor:
        """Return the encoder's output for features [B, T, inputs], of which int64 [B, 1] count."""
        fixed = torch.tensor([EMOTION_QUERY, EVENT_QUERY]).repeat(features.shape[0], 1)
        queries = self.embed(torch.cat([language.long(), fixed, text_norm.long()], dim=1))
        return self.encoder(torch.cat([queries, features], dim=1), count + QUERIES)

    def forward(
        self, audio: Tensor, audio_length: Tensor, language: Tensor, text_norm: Tensor, dither: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Recognise a padded batch of clips.

        Args:
            audio: float32 [B, N] in [-1, 1], 16 kHz.
            audio_length: int32 [B, 1], samples per clip; the rest of a row is padding.
            language: int32 [B, 1], row of the query embedding: 0 for a language to be found out.
            text_norm: int32 [B, 1], row of the query embedding: spoken or written form.
            dither: float32 [B, 1]: 1 adds the fixed noise, 0 none.

        Returns:
            Tokens int32 [B, T] and their log-probabilities float32 [B, T], the frames that count int32 [B, 1], and
            logits float32 [B, T, vocabulary]. The first four frames answer the queries.
        """
        logits = self.ctc_lo(self.encode(audio, audio_length, language, text_norm, dither))
        best, tokens = logits.max(dim=-1)
        log_probs = best - logits.logsumexp(dim=-1)
        count = self.features.frame_count(audio_length.long()) + QUERIES
        return tokens.to(torch.int32), log_probs, count.to(torch.int32), logits

    @classmethod
    def load(cls, checkpoint: Checkpoint) -> "SenseVoice":
        """Build the network from a checkpoint; every size is the checkpoint's.

        Raises:
            CheckpointError: a file is missing, of another architecture, or does not fit the others.
        """
        folder = checkpoint.require("recognizer_dir")
        config = plain_yaml(folder / "config.yaml")
        check_config(config, EXPECTED, str(folder / "config.yaml"))
        weights = {name: value.float() for name, value in state_dict(folder / "model.pt").items()}
        weights = {name.replace("ctc.ctc_lo.", "ctc_lo."): value for name, value in weights.items()}
        vocabulary = sentencepiece.SentencePieceProcessor(model_file=str(folder / RECOGNIZER_TOKENS)).get_piece_size()
        shift, scale = kaldi_cmvn(folder / "am.mvn")
        frontend, conf = config["frontend_conf"], config["encoder_conf"]
        inputs = frontend["n_mels"] * frontend["lfr_m"]
        try:
            rows = [weights["embed.weight"].shape[0], weights["ctc_lo.weight"].shape[0]]
        except KeyError as error:
            raise CheckpointError(f"{folder / 'model.pt'} has no {error.args[0]}") from error
        if shift.size != inputs or rows[1] != vocabulary:
            raise CheckpointError(
                f"{folder}: features of {inputs} and a CTC layer of {rows[1]} tokens do not fit am.mvn ({shift.size}) "
                f"and the {vocabulary} pieces of {RECOGNIZER_TOKENS}"
            )
        features = SenseVoiceFeatures(frontend["n_mels"], frontend["lfr_m"], frontend["lfr_n"], shift, scale)
        encoder = SenseVoiceEncoder(
            inputs=inputs,
            size=conf["output_size"],
            heads=conf["attention_heads"],
            units=conf["linear_units"],
            blocks=conf["num_blocks"],
            more_blocks=conf["tp_blocks"],
            kernel=conf["kernel_size"],
            longest=(LONGEST_SECONDS * SAMPLE_RATE // features.chunk_samples + 1) * CHUNK + QUERIES,
        )
        network = cls(features, encoder, *rows)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(f"{folder / 'model.pt'}: {error}") from error
        return network.eval()


def export(checkpoint: Checkpoint, destination: Path) -> None:
    """Write `model.onnx` for the recogniser of `checkpoint` into the folder `destination`.

    The file also offers `logits`, which Triton's config leaves out, for parity tests.

    Raises:
        CheckpointError: the checkpoint lacks a part or holds another architecture.
    """
    per_frame = {0: "batch", 1: "frames"}
    per_clip = {0: "batch"}
    integers = torch.zeros(2, 1, dtype=torch.int32)
    save_graph(
        SenseVoice.load(checkpoint),
        inputs={
            "audio": torch.zeros(2, SAMPLE_RATE),
            "audio_length": torch.full((2, 1), SAMPLE_RATE, dtype=torch.int32),
            "language": integers,
            "text_norm": integers.clone(),
            "dither": torch.zeros(2, 1),
        },
        outputs=["tokens", "log_probs", "tokens_length", "logits"],
        dynamic_axes={
            "audio": {0: "batch", 1: "samples"},
            **dict.fromkeys(("audio_length", "language", "text_norm", "dither", "tokens_length"), per_clip),
            **dict.fromkeys(("tokens", "log_probs", "logits"), per_frame),
        },
        path=destination / "model.onnx",
    )
