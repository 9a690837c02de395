"""Run the gateway: `python -m gateway`, settings from `GATEWAY_…` variables."""

import socket
import sys


def main() -> None:
    """Serve until SIGINT or SIGTERM. GATEWAY_… variables hold the settings; docs/api.md lists them."""
    # Imported here, because the decoding processes import this module again and need none of it.
    import uvicorn

    from gateway import logs
    from gateway.app import create_app
    from gateway.settings import Settings
    from gateway.triton_backend import neighbours, triton_backend, triton_recognizer

    settings = Settings()
    logs.configure(as_json=settings.log_json)
    app = create_app(settings, triton_backend(settings), triton_recognizer(settings), neighbours(settings))
    config = uvicorn.Config(app, access_log=False, log_config=None, timeout_graceful_shutdown=settings.drain_seconds)
    sockets = [_listen(settings.host, port) for port in dict.fromkeys((settings.port, *settings.ports))]
    uvicorn.Server(config).run(sockets=sockets)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol spelt out, asyncio sends small packets at once (TCP_NODELAY); else an answer waits 40 ms for the
    # acknowledgement of its header.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        sys.exit(f"cannot listen on {host}, port {port}: {error.strerror}")
    return listening


if __name__ == "__main__":
    import typer

    typer.run(main)
