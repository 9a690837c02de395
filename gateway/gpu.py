"""What NVIDIA's driver says about the first GPU."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One GPU: its name and bytes taken by programs and kept by the driver."""

    name: str
    used: int
    reserved: int


def first_gpu() -> Gpu | None:
    """Return the first GPU, `None` where there is none or the package `nvidia-ml-py` is not installed."""
    try:
        import pynvml  # of the extra `gpu`
    except ModuleNotFoundError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        memory = pynvml.nvmlDeviceGetMemoryInfo(device, version=pynvml.nvmlMemory_v2)
        return Gpu(str(pynvml.nvmlDeviceGetName(device)), int(memory.used), int(memory.reserved))
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
