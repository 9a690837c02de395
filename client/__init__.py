"""Python client and command line over Triton gRPC."""
