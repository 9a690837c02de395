"""Everything that can be chosen when the system starts."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""Folder that holds `python_backend` and, in a checkout, `model_repository`."""


@dataclass(frozen=True)
class Settings:
    """One running system: where its models are, which addresses it takes, how it behaves.

    Args:
        model_repository: folder with one sub-folder per model.
        host, port: address of the gateway.
        triton_host: address all three Triton ports bind to.
        http_port, grpc_port, metrics_port: Triton's ports.
        gateway: whether to run the gateway beside tritonserver.
        once: stop after the first words.
        log_verbose: pass every line of tritonserver's log on, at its verbose level.
        first_words: WAV file that the first sentence goes to.
        load_timeout: seconds that tritonserver may take to load all models.
        restarts: restarts in a row, of either program, after which everything is stopped.
    """

    model_repository: Path = ROOT / "model_repository"
    host: str = "127.0.0.1"
    port: int = 7860
    triton_host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    gateway: bool = True
    once: bool = False
    log_verbose: bool = False
    first_words: Path = Path("out/first-words.wav")
    load_timeout: float = 900.0
    restarts: int = 6

    @property
    def triton_client_host(self) -> str:
        """Where this machine reaches Triton: a wildcard address is not one to connect to."""
        return local_address(self.triton_host)

    @property
    def url(self) -> str:
        """The gateway's address, as seen from this machine."""
        return f"http://{local_address(self.host)}:{self.port}"


def local_address(host: str) -> str:
    """Return an address that reaches a server bound to `host` from this machine."""
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104
