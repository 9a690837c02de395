"""Run the gateway: `python -m gateway`, settings from `GATEWAY_…` variables."""


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    # Imported here, because the decoding processes import this module again and need none of it.
    import uvicorn

    from gateway import logs
    from gateway.app import create_app
    from gateway.settings import Settings
    from gateway.triton_backend import triton_backend

    settings = Settings()
    logs.configure(as_json=settings.log_json)
    app = create_app(settings, triton_backend(settings))
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=settings.drain_seconds,
    )


if __name__ == "__main__":
    main()
