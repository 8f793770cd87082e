"""Collects every message for a person from the code of prefdata: what `generate.py` writes as `messages.md`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prefdata import errors

PACKAGE = Path(errors.__file__).parent
ROOMS = {
    "cli": "Commands",
    "recipe": "Recipes",
    "spec": "Fields and code of one's own",
    "tables": "Tables",
    "hub": "The Hub",
    "models": "Language models",
    "prompts": "Prompts",
    "sampling": "Sampling",
    "scoring": "Scoring",
    "pairing": "Pairing",
    "dataset": "Layouts and audit",
    "flow": "Builds",
    "inspection": "Looking",
    "page": "The page",
    "verification": "Verification",
    "publish": "Publishing",
    "training": "Training",
    "evaluation": "Evaluation",
}
_HEAD = """# Every message

<!-- Made by docs/reference/generate.py from the code. -->

All messages for a person, by the room that writes them: what is refused, what is valid, what to do next. `…` stands for
names and numbers; a message that is made of nothing else is left out.
[Troubleshooting](../troubleshooting/index.md) explains those that occur most often."""


class Message(NamedTuple):
    """A message as it is written in the code."""

    problem: str
    valid: str
    hint: str


def page() -> str:
    """Writes the page."""
    found = {path.name: sorted(set(messages(path))) for path in PACKAGE.iterdir() if path.is_dir()}
    others = {room for room, listed in found.items() if listed} - set(ROOMS)
    assert not others, f"rooms without a title: {others}"
    header = "| message | valid | next |\n| --- | --- | --- |"
    sections = [
        f"## {title}\n\n" + "\n".join([header, *(row(each) for each in found[room])])
        for room, title in ROOMS.items()
        if found[room]
    ]
    return "\n\n".join([_HEAD, *sections]) + "\n"


def messages(folder: Path) -> Iterator[Message]:
    """Yields the messages of the files of a folder."""
    names = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.UserError)
    }
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Name) and node.func.id in names:
                rest = {each.arg: each.value for each in node.keywords}
                valid, hint = (words(rest[key])[0] if key in rest else "" for key in ("valid", "hint"))
                for problem in words(node.args[0]):
                    if any(letter.isalpha() for letter in problem):
                        yield Message(problem, valid, hint)


def words(node: ast.expr) -> list[str]:
    """Writes a text of the code, and each of two where a condition decides; what is computed is `…`."""
    if isinstance(node, ast.IfExp):
        return [*words(node.body), *words(node.orelse)]
    if isinstance(node, ast.Constant):
        return ["" if node.value is None else str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(words(part)[0] if isinstance(part, ast.Constant) else "…" for part in node.values)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [f"{words(node.left)[0]}{words(node.right)[0]}"]
    return ["…"]


def row(message: Message) -> str:
    """Writes a message as a row; signs that Markdown or a table would read are code."""
    return f"| {' | '.join(cell(text) for text in message)} |"


def cell(text: str) -> str:
    """Writes a text as code, in one line."""
    line = " ".join(text.split()).replace("|", "\\|")
    if line in ("", "…"):
        return line
    return f"`` {line} ``" if "`" in line else f"`{line}`"
