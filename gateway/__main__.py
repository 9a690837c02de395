"""Run the gateway: `python -m gateway`, settings from `GATEWAY_…` variables."""

import logging

import uvicorn

from gateway.app import create_app
from gateway.settings import Settings
from gateway.triton_backend import triton_backend


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings()
    app = create_app(settings, triton_backend(settings))
    uvicorn.run(app, host=settings.host, port=settings.port, access_log=False, log_config=None)


if __name__ == "__main__":
    main()
