"""Word lists and sentence templates, as text beside the code."""

from importlib import resources


def sections(file: str) -> dict[str, list[str]]:
    """Read a file of sections: `[name]`, then words parted by commas; those of `[sentence]` stand one in a line."""
    lines: dict[str, list[str]] = {}
    name = ""
    for line in resources.files(__package__).joinpath(file).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            name = line.strip("[]")
            lines[name] = []
        else:
            lines[name].append(line)
    return {name: found if name == "sentence" else " ".join(found).split(", ") for name, found in lines.items()}
