"""espeak-ng through its C library: a waveform and the time of every phone, at a thousand times real time."""

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LIBRARY = "libespeak-ng.so.1"
# Names and values of espeak-ng's speak_lib.h, version 1.51.
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _IPA = 1, 2
_RATE, _PITCH, _RANGE = 1, 3, 4
_CHARACTERS_UTF8 = 1
_END, _WORD, _PHONEME = 0, 1, 7
_SLOWEST, _FASTEST = 80, 450  # words per minute


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Phone:
    """An IPA symbol and when it begins, in milliseconds; the empty symbol is a pause."""

    symbol: str
    start: int


@dataclass(frozen=True)
class Speech:
    """What espeak-ng made of a text.

    Attributes:
        waveform: int16 [N].
        phones: in order of time.
        words: where each word begins, in milliseconds.
    """

    waveform: NDArray[np.int16]
    phones: list[Phone]
    words: list[int]


class Espeak:
    """The library is one global state: one instance per process.

    Attributes:
        rate: samples per second of every waveform.
    """

    def __init__(self) -> None:
        """Load the library.

        Raises:
            OSError: espeak-ng is not installed; on Debian and Ubuntu `apt install espeak-ng` brings it.
        """
        self._library = ctypes.CDLL(LIBRARY)
        self.rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS | _IPA))
        if self.rate <= 0:
            raise OSError("espeak-ng found no data files; install the package espeak-ng-data")
        self._blocks: list[NDArray[np.int16]] = []
        self._phones: list[Phone] = []
        self._words: list[int] = []
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str, rate: float, pitch: int, span: int) -> Speech:
        """Speak `text`.

        Args:
            text: words, or pinyin with tone digits for a Mandarin voice.
            voice: language and variant, `en-us+f2`.
            rate: words per minute.
            pitch, span: 0 … 99.

        Raises:
            ValueError: there is no such voice, or the text gives no sound.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice}")
        for parameter, value, low, high in (
            (_RATE, round(rate), _SLOWEST, _FASTEST),
            (_PITCH, pitch, 0, 99),
            (_RANGE, span, 0, 99),
        ):
            self._library.espeak_SetParameter(parameter, min(max(value, low), high), 0)
        self._blocks, self._phones, self._words = [], [], []
        data = text.encode()
        self._library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _CHARACTERS_UTF8, None, None)
        if not self._blocks:
            raise ValueError(f"no sound for {text!r}")
        return Speech(np.concatenate(self._blocks), self._phones, self._words)

    def _receive(
        self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: "ctypes._Pointer[_Event]"
    ) -> int:
        if count > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _END:
            event = events[index]
            if event.type == _PHONEME:
                self._phones.append(Phone(event.id.string.decode(), event.audio_position))
            elif event.type == _WORD:
                self._words.append(event.audio_position)
            index += 1
        return 0
