"""A small SentencePiece model with the id layout of the released one, written without training.

The file is one protocol-buffer message (sentencepiece_model.proto); the few fields in use are encoded here.
"""

import collections
import math
import re
import string
import struct
from pathlib import Path

from python_backend.llm import prompt

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
AUDIO_TOKENS = 9216

# Interface constants of the released tokenizer.model: ids 0 … 67.
_TURNS = ("EOT", "BOT", "CALL_START", "CALL_END", "THINK_START", "THINK_END")
_MEDIA = ("IMG_START", "IMG_END", "META_START", "META_END")
_PICTURES = ("<im_patch>", "<im_start>", "<im_end>", "<dream>", "<dream_start>", "<dream_end>")
_VIDEO = ("<video_start>", "<video_end>", "<row_patch>", "<column_patch>")
_SPEECH = ("<audio_start>", "<audio_end>", "<text_start>", "<text_end>", "<|TTS|>", "<|ASR|>", "<|TQAA|>", "<|AQTA|>")
SPECIAL: tuple[tuple[str, int], ...] = (
    ("<unk>", UNKNOWN),
    *((piece, CONTROL) for piece in ("<s>", "</s>")),
    *((f"<|{name}|>", CONTROL) for name in (*_TURNS, *_MEDIA)),
    *((piece, CONTROL) for piece in _PICTURES),
    *((piece, USER_DEFINED) for piece in ("<|MASK_1e69f|>", "<|UNMASK_1e69f|>")),
    *((piece, CONTROL) for piece in _VIDEO),
    ("<|SEP_1e69f|>", USER_DEFINED),
    *((f"<user_defined_symbol_{number}>", USER_DEFINED) for number in range(22, 27)),
    *((piece, CONTROL) for piece in _SPEECH),
    *((f"<user_defined_symbol_{number}>", USER_DEFINED) for number in range(35, 64)),
)

_ENGLISH = """
the of and to in a is that it was for on are as with his they at be this from have or by one had not but what all were
when we there can an your which their said if do will each about how up out them then she many some so these would other
into has more her two like him see time could no make than first been its who now people my made over did down only way
find use may water long little very after words called just where most know get through back much before go good new
write our used me man too any day same right look think also around another came come work three word must because does
part even place well such here take why things help put years different away again off went old number great tell men
say small every found still between name should home big give air line set own under read last never us left end along
while might next sound below saw something thought both few those always looked show large often together asked house
don't world going want you know I hello speech voice speaking today thank feel everything seems finished project
"""
_CHINESE = (
    "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心学么之都好看起发当没成只如事把还用第样道想"
    "作种开美总从无情己面最女但现前些所同日手又行意动方期它头经长儿回位分爱老因很给名法间斯知世什两次使身者被高已亲其进此话常与活正感见明问力理尔点文几定本公特"
    "做外孩相西果走将月十实向声车全信重三机工物气每并别真打太新比才便夫再书部水像眼等体却加电主界门利海受听表德少克代员许稜先口由死安写性马光白或住难望教命花结"
    "，。！？、：；“”（）…欢迎使用音语合测试缓存"
)


def write_text_tokenizer(
    path: Path, english: str = _ENGLISH, chinese: str = _CHINESE, audio_tokens: int = AUDIO_TOKENS
) -> int:
    """Write the model to `path` and return its number of pieces; see `normal_pieces` for the words.

    Args:
        path: of `tokenizer.model`.
        english, chinese: what has pieces of its own; all else is read by letters and bytes.
        audio_tokens: pieces `<audio_0>` … at the end.
    """
    pieces = [(piece, 0.0, kind) for piece, kind in SPECIAL]
    pieces += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    pieces += [(piece, score, NORMAL) for piece, score in normal_pieces(english, chinese)]
    pieces += [(f"<audio_{token}>", 0.0, USER_DEFINED) for token in range(audio_tokens)]
    path.write_bytes(sentencepiece_model(pieces, byte_fallback=True))
    return len(pieces)


def normal_pieces(english: str = _ENGLISH, chinese: str = _CHINESE) -> list[tuple[str, float]]:
    """Return words by their frequency, then single characters, each with its log-probability.

    Args:
        english: words that are pieces of their own, next to those of the prompt templates; others are read by letters.
        chinese: characters that are pieces.
    """
    templates = [value for name, value in vars(prompt).items() if name.isupper() and isinstance(value, str)]
    words = re.findall(r"[A-Za-z]+", " ".join([*templates, "system human assistant", english]))
    counts = collections.Counter("▁" + word for word in words)
    for word in ("system", "human", "assistant"):
        counts[word] += 1
    total = sum(counts.values())
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    single = ["▁", *string.ascii_letters, *string.digits, *string.punctuation, *dict.fromkeys(chinese)]
    known = {piece for piece, _ in ranked}
    scores = [(piece, math.log(count / total)) for piece, count in ranked]
    return [("▁", -3.0), *scores, *((piece, -10.0) for piece in single[1:] if piece not in known)]


def sentencepiece_model(pieces: list[tuple[str, float, int]], *, byte_fallback: bool) -> bytes:
    """Return the file of a unigram model of `pieces`, each with its log-probability and kind."""
    body = b"".join(
        _bytes(1, _bytes(1, piece.encode()) + _float(2, score) + _integer(3, kind)) for piece, score, kind in pieces
    )
    unigram, bytes_known, split_digits = _integer(3, 1), _integer(35, int(byte_fallback)), _integer(25, 1)
    trainer = unigram + _integer(4, len(pieces)) + split_digits + bytes_known
    normalizer = _bytes(1, b"identity") + _bytes(2, b"") + _integer(4, 0)  # keeps repeated spaces
    return body + _bytes(2, trainer) + _bytes(3, normalizer)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value
