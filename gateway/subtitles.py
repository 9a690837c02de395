"""Transcripts as subtitles: SubRip (srt) and WebVTT (https://www.w3.org/TR/webvtt1/)."""

from collections.abc import Sequence

from client.recognition import Segment


def srt(segments: Sequence[Segment]) -> str:
    """Return numbered blocks, times with a comma."""
    return "".join(
        f"{number}\n{_span(segment, ',')}\n{_line(segment)}\n\n" for number, segment in enumerate(segments, start=1)
    )


def vtt(segments: Sequence[Segment]) -> str:
    """Return WebVTT, times with a dot."""
    escaped = (
        f"{_span(segment, '.')}\n{_line(segment).replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}\n\n"
        for segment in segments
    )
    return "WEBVTT\n\n" + "".join(escaped)


def _span(segment: Segment, point: str) -> str:
    return f"{_time(segment.start, point)} --> {_time(segment.end, point)}"


def _line(segment: Segment) -> str:
    return " ".join(segment.text.split())


def _time(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
