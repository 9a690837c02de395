"""Streamed requests to a real Triton."""

import queue

import numpy as np
import tritonclient.grpc as grpcclient

from tests.e2e.triton_inputs import ensemble_inputs, tensors

STREAM = "step_audio_editx_stream"


class Speech:
    """One gRPC stream with one request; its responses."""

    def __init__(self, server, model=STREAM, parameters=None, **fields):
        self._answers = queue.SimpleQueue()
        self.client = server.triton()
        self.client.start_stream(
            lambda result, error: self._answers.put((result, error)),
        )
        inputs = tensors(grpcclient, ensemble_inputs(**fields) if model == STREAM and "op" not in fields else fields)
        self.client.async_stream_infer(model, inputs, parameters=parameters or {})

    def __iter__(self):
        try:
            while True:
                result, error = self._answers.get(timeout=60)
                if error:
                    raise error
                response = result.get_response()
                yield {output.name: result.as_numpy(output.name) for output in response.outputs}
                if response.parameters["triton_final_response"].bool_param:
                    return
        finally:
            self.leave()

    def wait(self, seconds=60):
        """Wait for one response."""
        result, error = self._answers.get(timeout=seconds)
        if error:
            raise error
        return result

    def leave(self):
        """Go away without waiting for the end, as a client that disconnects."""
        self.client.stop_stream(cancel_requests=True)


def sound_of(answers):
    return np.concatenate([answer["waveform"] for answer in answers])
