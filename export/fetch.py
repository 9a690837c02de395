"""Download the released checkpoints. Only data files: no Python code comes along."""

from pathlib import Path

from rich.console import Console

REPOSITORIES = ("stepfun-ai/Step-Audio-EditX", "stepfun-ai/Step-Audio-Tokenizer")
AWQ_REPOSITORY = "stepfun-ai/Step-Audio-EditX-AWQ-4bit"
RECOGNIZER = {"huggingface": "FunAudioLLM/SenseVoiceSmall", "modelscope": "iic/SenseVoiceSmall"}
DATA_FILES = ["*.safetensors", "*.json", "*.model", "*.onnx", "*.pt", "*.npy", "*.yaml", "*.mvn", "*.txt", "*seg_dict"]


def fetch(directory: Path, hub: str, awq: bool, console: Console) -> None:
    """Download StepFun's repositories and SenseVoice into `directory`; finished files are kept, broken ones resumed.

    With `awq`, the language model's AWQ form comes too.

    Raises:
        SystemExit: the hub's client package is not installed.
    """
    for repository in (*REPOSITORIES, RECOGNIZER[hub], *([AWQ_REPOSITORY] if awq else [])):
        console.print(f"{repository} from {hub}")
        target = directory / repository.partition("/")[2]
        if hub == "huggingface":
            from huggingface_hub import snapshot_download

            snapshot_download(repository, local_dir=target, allow_patterns=DATA_FILES)
        else:
            try:
                from modelscope import snapshot_download as modelscope_download
            except ImportError as error:
                raise SystemExit("ModelScope needs its client: pip install modelscope") from error
            modelscope_download(repository, local_dir=str(target), allow_patterns=DATA_FILES)
    console.print(f"done. Next: python -m export build --checkpoint {directory}")
