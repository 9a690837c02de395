"""Starts tritonserver and the gateway as one supervised whole."""
