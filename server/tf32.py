"""What the log says about TF32: NVIDIA's GPUs can round float32 factors to 10 bits of mantissa for speed."""

from collections.abc import Mapping
from pathlib import Path

SWITCH = "NVIDIA_TF32_OVERRIDE"


def tf32_line(environment: Mapping[str, str], driver: Path = Path("/dev/nvidiactl")) -> str:
    """Return one line.

    Args:
        environment: of the model processes.
        driver: there when the machine has an NVIDIA GPU that may be used.
    """
    if not driver.exists():
        return "TF32: not used, there is no GPU"
    if environment.get(SWITCH) == "0":
        return f"TF32: off ({SWITCH}=0)"
    return f"TF32: where a library uses it by itself, as ONNX Runtime does; {SWITCH}=0 turns it off"
