"""The way to Triton that every client takes."""

import tritonclient.grpc.aio as triton

# A restarted server is to be found again within a second: left to itself, gRPC waits up to two minutes between tries.
_CHANNEL = [
    ("grpc.max_send_message_length", triton.MAX_GRPC_MESSAGE_SIZE),
    ("grpc.max_receive_message_length", triton.MAX_GRPC_MESSAGE_SIZE),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


def connect(url: str) -> triton.InferenceServerClient:
    """Return a client of the gRPC end point `url`, host and port; it belongs to the running event loop."""
    return triton.InferenceServerClient(url, channel_args=_CHANNEL)
