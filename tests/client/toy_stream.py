"""A streaming model for the real tritonserver that sings: `text` says how it ends."""

from pathlib import Path

MODEL = "step_audio_editx_stream"

CONFIG = """
name: "step_audio_editx_stream"
backend: "python"
max_batch_size: 0
model_transaction_policy { decoupled: true }
input [
  { name: "audio" data_type: TYPE_FP32 dims: [ -1 ] optional: true },
  { name: "sample_rate" data_type: TYPE_INT32 dims: [ 1 ] optional: true },
  { name: "mode" data_type: TYPE_STRING dims: [ 1 ] optional: true },
  { name: "text" data_type: TYPE_STRING dims: [ 1 ] optional: true },
  { name: "prompt_text" data_type: TYPE_STRING dims: [ 1 ] optional: true },
  { name: "variant" data_type: TYPE_STRING dims: [ 1 ] optional: true }
]
output [
  { name: "waveform" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "finish_reason" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "usage" data_type: TYPE_INT32 dims: [ 2 ] },
  { name: "voice_ms" data_type: TYPE_FP32 dims: [ 4 ] },
  { name: "llm_ms" data_type: TYPE_FP32 dims: [ 2 ] },
  { name: "flow_ms" data_type: TYPE_FP32 dims: [ 2 ] },
  { name: "vocoder_ms" data_type: TYPE_FP32 dims: [ 1 ] },
  { name: "kept_voice_key" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "cache_hit" data_type: TYPE_BOOL dims: [ 1 ] }
]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""

# Twenty chunks of 0.1 s, 50 ms apart. The file `left` in its folder counts the callers that went away.
CODE = """
import threading, time
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb

FINAL = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL

class TritonPythonModel:
    def initialize(self, args):
        self.left = Path(args["model_repository"]) / "left"

    def execute(self, requests):
        for request in requests:
            text = bytes(pb.get_input_tensor_by_name(request, "text").as_numpy()[0]).decode()
            wanted = set(request.requested_output_names())
            threading.Thread(target=self.sing, args=(request.get_response_sender(), text, wanted)).start()

    def sing(self, sender, text, wanted):
        def send(**values):
            sender.send(pb.InferenceResponse([pb.Tensor(n, v) for n, v in values.items() if n in wanted]))

        def fail(message, code):
            sender.send(pb.InferenceResponse(error=pb.TritonError(message, code)))

        for number in range(20):
            if sender.is_cancelled():
                with self.left.open("a") as file:
                    file.write("x")
                return sender.send(flags=FINAL)
            if text == "refuse":
                fail("text: must not be rude", pb.TritonError.INVALID_ARG)
                return sender.send(flags=FINAL)
            if text == "full":
                fail("queue full: 64 wait", pb.TritonError.UNAVAILABLE)
                return sender.send(flags=FINAL)
            if text == "break" and number == 3:
                fail("the flow broke", pb.TritonError.INTERNAL)
                return sender.send(flags=FINAL)
            send(waveform=np.full(2400, 0.01 * (number + 1), np.float32))
            time.sleep(0.05)
        if text != "vanish":
            send(
                finish_reason=np.array([b"stop"], dtype=object),
                usage=np.array([11, 22], np.int32),
                voice_ms=np.array([1, 2, 3, 4], np.float32),
                llm_ms=np.array([5, 6], np.float32),
                flow_ms=np.array([7, 8], np.float32),
                vocoder_ms=np.array([9], np.float32),
            )
        sender.send(flags=FINAL)
"""


def write(repository: Path) -> None:
    """Add the model to a model repository."""
    folder = repository / MODEL / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(CODE)
    (folder.parent / "config.pbtxt").write_text(CONFIG)
