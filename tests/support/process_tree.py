"""Processes that a process has started, as Linux lists them."""

from __future__ import annotations

from pathlib import Path


def descendants(root: int) -> list[int]:
    """Processes that this one has started, and those that these have, in the order of their start; no zombies."""
    parents: dict[int, int] = {}
    starts: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in "ZX":
            pid = int(path.parent.name)
            parents[pid], starts[pid] = int(fields[1]), int(fields[19])
    found: list[int] = []
    reached = {root}
    while fresh := {pid for pid, parent in parents.items() if parent in reached} - reached:
        reached |= fresh
        found += fresh
    return sorted(found, key=lambda pid: (starts[pid], pid))


def name_of(pid: int) -> str:
    """The module or program that a process runs; empty when it has ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
    if state in "ZX":
        return ""
    return next((word for word in words if word.startswith("prefdata.")), Path(words[0]).name)


def mapped_bytes(pid: int, suffixes: tuple[str, ...]) -> int:
    """Bytes in memory of the files of these endings that a process has mapped; 0 when it has ended."""
    total, counted = 0, False
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        head, _, rest = line.partition(" ")
        if not head.endswith(":"):
            counted = rest.endswith(suffixes)
        elif counted and head == "Rss:":
            total += int(rest.split()[0]) * 1024
    return total


def marked(marker: str) -> list[int]:
    """Processes that have this text in their environment, whoever their parent is by now; no zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            here = marker.encode() in path.read_bytes()
        except OSError:
            continue
        if here and name_of(pid := int(path.parent.name)):
            found.append(pid)
    return found
