"""Memory that was freed, and that the C library keeps for later."""

import ctypes


def give_back() -> None:
    """Return free memory to the system, as far as the C library can (glibc's `malloc_trim`).

    Blocks of some megabytes come from the heap, and glibc shrinks that only at its end: one small block behind a dozen
    closed streams keeps all of their memory resident.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
