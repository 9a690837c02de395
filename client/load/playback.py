"""What a listener hears who plays sound as it comes."""


class Playback:
    """Starts with the first sound, without any reserve, and stands still whenever the next sound is not there in time.

    Attributes:
        first_at: when the first sound came, in seconds; `None` before.
        seconds: length of all sound so far.
        stall: seconds that playing has stood still so far, all pauses together. A player that had waited so long before
            it began would have played without any.
    """

    def __init__(self) -> None:
        self.first_at: float | None = None
        self.seconds = 0.0
        self.stall = 0.0

    def take(self, at: float, seconds: float) -> None:
        """Hear of a part of `seconds` that came at the time `at`; parts without sound count for nothing."""
        if not seconds:
            return
        if self.first_at is None:
            self.first_at = at
        self.stall = max(self.stall, at - self.first_at - self.seconds)
        self.seconds += seconds
