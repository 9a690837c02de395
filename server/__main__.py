"""`python -m server`: one command from exported models to a speaking service."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from server import preflight
from server.console import say
from server.locate import find_home
from server.settings import Settings
from server.supervisor import Supervisor

DEFAULTS = Settings()


def main(
    model_repository: Annotated[
        Path, typer.Option(envvar="MODEL_REPOSITORY", help="Folder with one sub-folder per model.")
    ] = DEFAULTS.model_repository,
    host: Annotated[
        str, typer.Option(envvar="GATEWAY_HOST", help="Address of the gateway; 0.0.0.0 opens it to the network.")
    ] = DEFAULTS.host,
    port: Annotated[int, typer.Option(envvar="GATEWAY_PORT", help="Port of the gateway.")] = DEFAULTS.port,
    triton_host: Annotated[
        str, typer.Option(envvar="TRITON_HOST", help="Address of Triton's three ports.")
    ] = DEFAULTS.triton_host,
    triton_http_port: Annotated[
        int, typer.Option(envvar="TRITON_HTTP_PORT", help="Triton's HTTP port.")
    ] = DEFAULTS.http_port,
    triton_grpc_port: Annotated[
        int, typer.Option(envvar="TRITON_GRPC_PORT", help="Triton's gRPC port.")
    ] = DEFAULTS.grpc_port,
    triton_metrics_port: Annotated[
        int, typer.Option(envvar="TRITON_METRICS_PORT", help="Triton's port for Prometheus.")
    ] = DEFAULTS.metrics_port,
    gateway: Annotated[bool, typer.Option(help="Run the gateway beside tritonserver.")] = DEFAULTS.gateway,
    once: Annotated[bool, typer.Option("--once", help="Start, speak the first words, stop.")] = DEFAULTS.once,
    first_words: Annotated[Path, typer.Option(help="WAV file of the first words.")] = DEFAULTS.first_words,
    load_timeout: Annotated[
        float, typer.Option(envvar="LOAD_TIMEOUT", help="Seconds that loading all models may take.")
    ] = DEFAULTS.load_timeout,
    restarts: Annotated[
        int, typer.Option(help="Stop everything when more restarts than this, without a calm spell, were no help.")
    ] = DEFAULTS.restarts,
    log_verbose: Annotated[bool, typer.Option("--log-verbose", help="Show all of tritonserver's log.")] = False,
) -> None:
    """Start tritonserver with every model and the gateway in front of it, and keep both running."""
    settings = Settings(
        model_repository=model_repository,
        host=host,
        port=port,
        triton_host=triton_host,
        http_port=triton_http_port,
        grpc_port=triton_grpc_port,
        metrics_port=triton_metrics_port,
        gateway=gateway,
        once=once,
        log_verbose=log_verbose,
        first_words=first_words,
        load_timeout=load_timeout,
        restarts=restarts,
    )
    home = find_home()
    problems = preflight.check(settings, home)
    for problem in problems:
        say(f"{problem.what}\n  -> {problem.remedy}")
    if problems or home is None:
        raise typer.Exit(1)
    supervisor = Supervisor(settings, home)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # ignored under nohup
            signal.signal(number, lambda *_: supervisor.request_stop())
    raise typer.Exit(supervisor.run())


if __name__ == "__main__":
    typer.run(main)
