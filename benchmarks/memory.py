"""How much memory a server's processes take."""

from pathlib import Path


def family(root: int) -> set[int]:
    """Return process `root` and all its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
    found = {root}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return found


def proportional_bytes(root: int) -> int:
    """Return the memory of process `root` and its descendants; pages they share count once among them (PSS)."""
    total = 0
    for pid in family(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total
