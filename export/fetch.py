"""Download the released checkpoints. Only data files: no Python code comes along."""

from pathlib import Path

from rich.console import Console

REPOSITORIES = ("Step-Audio-EditX", "Step-Audio-Tokenizer")
AWQ_REPOSITORY = "Step-Audio-EditX-AWQ-4bit"
DATA_FILES = ["*.safetensors", "*.json", "*.model", "*.onnx", "*.pt", "*.npy", "*.yaml", "*.mvn", "*.txt", "*seg_dict"]


def fetch(directory: Path, hub: str, awq: bool, console: Console) -> None:
    """Download the repositories of StepFun into `directory`; finished files are kept, broken ones resumed.

    With `awq`, the language model's AWQ form comes too.

    Raises:
        SystemExit: the hub's client package is not installed.
    """
    for name in (*REPOSITORIES, *([AWQ_REPOSITORY] if awq else [])):
        console.print(f"stepfun-ai/{name} from {hub}")
        target = directory / name
        if hub == "huggingface":
            from huggingface_hub import snapshot_download

            snapshot_download(f"stepfun-ai/{name}", local_dir=target, allow_patterns=DATA_FILES)
        else:
            try:
                from modelscope import snapshot_download as modelscope_download
            except ImportError as error:
                raise SystemExit("ModelScope needs its client: pip install modelscope") from error
            modelscope_download(f"stepfun-ai/{name}", local_dir=str(target), allow_patterns=DATA_FILES)
    console.print(f"done. Next: python -m export build --checkpoint {directory}")
