"""What Triton loads as `backends/tensorrt/model.py` where there is no TensorRT: a refusal that says what to do."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Refuses to load: emulating a TensorRT plan would only hide that it was built for another machine."""

    def initialize(self, args: dict[str, str]) -> None:
        """Refuse."""
        raise pb_utils.TritonModelException(
            f"model '{args['model_name']}': TensorRT engines need a GPU and NVIDIA's Triton container; "
            "`python -m export build` writes the ONNX form that runs here"
        )
