"""Make this folder's files with the public `funasr` package; README.md says how to run it."""

import json
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import yaml
from funasr.frontends.wav_frontend import WavFrontend
from funasr.models.sense_voice.export_meta import export_forward
from funasr.models.sense_voice.model import SenseVoiceSmall
from funasr.tokenizer.sentencepiece_tokenizer import SentencepiecesTokenizer
from funasr.utils.postprocess_utils import rich_transcription_postprocess

from export.demo.recognizer import TAGS
from export.demo.signals import speech_like
from export.demo.tokenizer import kaldi_cmvn_text

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "SenseVoiceSmall"
TOKENS = "chn_jpn_yue_eng_ko_spectok.bpe.model"
SENTENCES = """
the quick brown fox jumps over the lazy dog and runs away from here
speech recognition turns what people say into words that we can read
我总觉得有人在跟着我 我能听到奇怪的脚步声
今天天气很好 我们一起去公园散步吧
"""
ENCODER = {
    "output_size": 32,
    "attention_heads": 4,
    "linear_units": 64,
    "num_blocks": 3,
    "tp_blocks": 2,
    "kernel_size": 11,
    "input_layer": "pe",
    "normalize_before": True,
    "sanm_shfit": 0,
    "selfattention_layer_type": "sanm",
    "dropout_rate": 0.1,
    "positional_dropout_rate": 0.1,
    "attention_dropout_rate": 0.1,
}
FRONTEND = {
    "fs": 16000,
    "window": "hamming",
    "n_mels": 80,
    "frame_length": 25,
    "frame_shift": 10,
    "lfr_m": 7,
    "lfr_n": 6,
}
# Samples, language, text form: rows of FunASR's query embedding.
CASES = ((400, 0, 14), (1361, 3, 15), (16000, 4, 14), (23457, 7, 15), (31113, 11, 14), (48001, 12, 15))
LONGEST_FEATURES = 24_000  # samples; features are the bulk of the file
RICH = (
    "<|zh|><|HAPPY|><|Speech|><|withitn|>你好，世界。",
    "<|zh|><|NEUTRAL|><|Speech|><|withitn|>你好。<|zh|><|SAD|><|Speech|><|withitn|>再见。",
    "<|zh|><|SAD|><|Speech|><|withitn|>你好。<|zh|><|SAD|><|Speech|><|withitn|>再见。",
    "<|en|><|ANGRY|><|BGM|><|withitn|>Go away.<|en|><|ANGRY|><|BGM|><|withitn|>Now.",
    "<|ja|><|EMO_UNKNOWN|><|Laughter|><|woitn|>はい",
    "<|en|><|SURPRISED|><|Applause|><|withitn|>Thank you.<|en|><|NEUTRAL|><|Speech|><|withitn|>Bye.",
    "<|nospeech|><|EMO_UNKNOWN|><|Speech|><|woitn|>",
    "<|nospeech|><|Event_UNK|>",
    "<|yue|><|FEARFUL|><|Cry|><|withitn|>唔好呀。",
    "<|ko|><|DISGUSTED|><|Sneeze|><|withitn|>네.",
)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    text = HERE / "sentences.txt"
    text.write_text(SENTENCES.strip() + "\n", encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(FOLDER / "tokens"),
        vocab_size=140,
        model_type="bpe",
        normalization_rule_name="identity",  # NFKC would be most of the file
        user_defined_symbols=[f"<|{tag}|>" for tag in TAGS],
        minloglevel=2,
    )
    text.unlink()
    (FOLDER / "tokens.vocab").unlink()
    (FOLDER / "tokens.model").rename(FOLDER / TOKENS)
    tokenizer = SentencepiecesTokenizer(str(FOLDER / TOKENS))

    clips = [
        (32767 * speech_like(7 + i, length / 16000 + 0.1)).astype(np.int16) for i, (length, *_) in enumerate(CASES)
    ]
    clips = [clip[:length] for clip, (length, *_) in zip(clips, CASES, strict=True)]
    plain = torch.cat([features(clip, WavFrontend(**FRONTEND, dither=0.0))[0] for clip in clips])
    cmvn = kaldi_cmvn_text(-plain.mean(dim=0).numpy(), 1 / plain.std(dim=0).numpy())
    (FOLDER / "am.mvn").write_text(cmvn)
    frontend = WavFrontend(**FRONTEND, cmvn_file=str(FOLDER / "am.mvn"), dither=0.0)

    vocabulary = tokenizer.get_vocab_size()
    model = SenseVoiceSmall(
        encoder="SenseVoiceEncoderSmall", encoder_conf=ENCODER, input_size=560, vocab_size=vocabulary
    ).eval()
    with torch.no_grad():  # spread out, so that tokens vary and no two logits are close
        model.ctc.ctc_lo.weight.mul_(4)
        for name, weight in model.encoder.named_parameters():
            if "norm" in name:
                weight.add_(0.2 * torch.randn_like(weight))
    torch.save(model.state_dict(), FOLDER / "model.pt")
    config = {
        "model": "SenseVoiceSmall",
        "model_conf": {"length_normalized_loss": True, "sos": 1, "eos": 2, "ignore_id": -1},
        "encoder": "SenseVoiceEncoderSmall",
        "encoder_conf": ENCODER,
        "frontend": "WavFrontend",
        "frontend_conf": FRONTEND,
        "tokenizer": "SentencepiecesTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
    }
    (FOLDER / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    arrays: dict[str, np.ndarray] = {"cases": np.array(CASES, np.int32)}
    spoken = []
    for i, (clip, (_, language, text_norm)) in enumerate(zip(clips, CASES, strict=True)):
        speech, count = features(clip, frontend)
        with torch.no_grad():
            logits, lengths = export_forward(
                model, speech[None].clone(), count, torch.tensor([language]), torch.tensor([text_norm])
            )
            names = {row: name for name, row in model.lid_dict.items()} | {0: "auto"}
            forms = {row: name for name, row in model.textnorm_dict.items()}
            told, _ = model.inference(
                torch.from_numpy(clip.astype(np.float32) / 32768),
                key=["clip"],
                tokenizer=tokenizer,
                frontend=frontend,
                device="cpu",
                language=names[language],
                text_norm=forms[text_norm],
            )
        assert int(lengths) == logits.shape[1] == len(speech) + 4
        arrays |= {f"audio_{i}": clip, f"logits_{i}": logits[0].numpy()}
        if len(clip) <= LONGEST_FEATURES:
            arrays[f"features_{i}"] = speech.numpy()
        spoken.append(told[0]["text"])
    np.savez_compressed(HERE / "golden.npz", **arrays)
    rich = {raw: rich_transcription_postprocess(raw) for raw in RICH}
    content = json.dumps({"texts": spoken, "rich": rich}, ensure_ascii=False, indent=1)
    (HERE / "texts.json").write_text(content + "\n", encoding="utf-8")


def features(clip: np.ndarray, frontend: WavFrontend) -> tuple[torch.Tensor, torch.Tensor]:
    speech, count = frontend(torch.from_numpy(clip.astype(np.float32) / 32768)[None], torch.tensor([len(clip)]))
    return speech[0], count


if __name__ == "__main__":
    main()
