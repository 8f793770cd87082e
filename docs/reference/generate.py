"""Writes the reference pages in this folder: every part that a recipe can name, every command, the names for Python.

Run it after a change of fields, docstrings or options::

    python docs/reference/generate.py
"""

from __future__ import annotations

import ast
import importlib
import inspect
import runpy
import sys
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from prefdata.cli import main as cli
from prefdata.recipe import Recipe
from prefdata.spec import Operational, Spec

FOLDER = Path(__file__).parent
ROOMS = {
    "recipe": "Recipes and profiles",
    "prompts": "Sources and filters of prompts",
    "sampling": "Sources of candidates",
    "models": "Language models",
    "scoring": "Scorers",
    "pairing": "Pair rules",
    "dataset": "Layouts and audit",
    "publish": "Publishing",
    "training": "Training",
}
API = {
    "api": ("The functions of prefdata", ["prefdata"]),
    "api-records": ("Records and errors", ["prefdata.records", "prefdata.errors"]),
    "api-spec": ("What parts are made of", ["prefdata.spec", "prefdata.spec.marks", "prefdata.spec.own"]),
    "api-rooms": (
        "Bases and functions of the rooms",
        [
            *("prefdata.prompts", "prefdata.sampling", "prefdata.models", "prefdata.scoring", "prefdata.pairing"),
            *("prefdata.dataset", "prefdata.publish", "prefdata.training", "prefdata.recipe", "prefdata.flow.progress"),
        ],
    ),
}
"""Page → its title, and the modules whose public names are on it; parts that a recipe names have pages of their own."""
_MADE = "<!-- Made by docs/reference/generate.py from the docstrings in the code. -->"
_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def pages() -> dict[str, str]:
    """Returns file name → text of every reference page."""
    rooms: dict[str, list[type[Spec]]] = {room: [] for room in ROOMS}
    for part in sorted(reachable(Recipe), key=lambda part: (part is not Recipe, part.__name__)):
        rooms[room_of(part)].append(part)
    made = {f"{room}.md": room_page(room, parts) for room, parts in rooms.items()}
    named = {part for parts in rooms.values() for part in parts}
    made |= {f"{page}.md": api_page(title, modules, named) for page, (title, modules) in API.items()}
    made["messages.md"] = runpy.run_path(str(FOLDER / "messages.py"))["page"]()
    return {**made, "commands.md": command_page(), "index.md": index_page(rooms)}


def reachable(root: type[Spec]) -> set[type[Spec]]:
    """Collects the classes of all parts that a recipe can name, at any depth."""
    parts: set[type[Spec]] = set()
    waiting: list[type[Spec]] = [root]
    while waiting:
        part = waiting.pop()
        if part not in parts:
            parts.add(part)
            waiting += [inner for info in part.model_fields.values() for inner in specs_in(info.annotation)]
    return parts


def specs_in(annotation: Any) -> Iterator[type[Spec]]:
    """Yields the classes of parts in a type annotation."""
    if inspect.isclass(annotation) and issubclass(annotation, Spec):
        yield annotation
    for inner in get_args(annotation):
        yield from specs_in(inner)


def room_of(part: type[Spec]) -> str:
    """Returns the room of `prefdata` that defines a part."""
    return part.__module__.split(".")[1]


def room_page(room: str, parts: Iterable[type[Spec]]) -> str:
    """Writes the page of one room."""
    sections = [section(part) for part in parts]
    return "\n\n".join([f"# {ROOMS[room]}", _MADE, *sections]) + "\n"


def section(part: type[Spec]) -> str:
    """Writes one part: its docstring and a table of its fields."""
    kind = kind_of(part)
    title = f"## {part.__name__}" + (f"\n\n`kind`: `{kind}`" if kind else "")
    blocks = [title, inspect.getdoc(part) or "", field_table(part)]
    return "\n\n".join(block for block in blocks if block)


def field_table(part: type[Spec]) -> str:
    """Writes the fields of a part as a table; empty where it has none."""
    names = [name for name in part.model_fields if name != "kind"]
    header = "| field | type | default | meaning |\n| --- | --- | --- | --- |"
    described = meanings(part)
    rows = [row(name, part.model_fields[name], described) for name in names]
    return "\n".join([header, *rows]) if names else ""


def kind_of(part: type[Spec]) -> str:
    """Returns the value of `kind` that names a part in JSON; empty where it has none."""
    info = part.model_fields.get("kind")
    return "" if info is None or info.default is PydanticUndefined else str(info.default)


def meanings(part: type[Spec]) -> dict[str, str]:
    """Reads the docstrings under the fields of a part, those of its bases included."""
    found: dict[str, str] = {}
    for owner in reversed(part.__mro__[: part.__mro__.index(Spec)]):
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        body = node.body if isinstance(node, ast.ClassDef) else []
        for field, text in pairwise(body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    found[name] = inspect.cleandoc(words)
    return found


def row(name: str, info: FieldInfo, described: Mapping[str, str]) -> str:
    """Writes one field as a row of a table."""
    meaning = " ".join(described.get(name, "").split())
    limits = [f"{word} {value}" for key, word in _BOUNDS.items() for value in bounds(info, key)]
    kept_out = "*Operational: changing it reruns nothing.*" if Operational in info.metadata else ""
    cells = (f"`{name}`", type_text(info.annotation), default_text(info))
    notes = " ".join(part for part in (meaning.replace("|", "\\|"), f"({', '.join(limits)})" if limits else "") if part)
    return f"| {' | '.join(cells)} | {' '.join(part for part in (notes, kept_out) if part)} |"


def bounds(info: FieldInfo, key: str) -> list[Any]:
    """Returns the values of one kind of bound of a field."""
    return [getattr(mark, key) for mark in info.metadata if getattr(mark, key, None) is not None]


def default_text(info: FieldInfo) -> str:
    """Writes the default of a field."""
    if info.is_required():
        return "required"
    default = info.get_default(call_default_factory=True)
    if isinstance(default, Spec):
        names = sorted(default.model_fields_set - {"kind"})
        values = ", ".join(f"{name}={getattr(default, name)!r}" for name in names)
        return f"`{type(default).__name__}({values})`".replace("|", "\\|")
    if isinstance(default, tuple) and any(isinstance(item, Spec) for item in default):
        return "`(" + ", ".join(f"{type(item).__name__}(...)" for item in default) + ")`"
    shown = dict(default) if isinstance(default, Mapping) else default
    return f"`{shown!r}`".replace("|", "\\|")


def type_text(annotation: Any) -> str:
    """Writes a type annotation; parts are links to their sections."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(type_text, inner)))
    if origin is Literal:
        # Sorted: Python keeps one object for literals of the same values, in the order of whichever it saw first.
        return ", ".join(f"`{value!r}`" for value in sorted(inner, key=str))
    if origin is tuple:
        items = [type_text(item) for item in inner if item is not Ellipsis]
        return f"list of {items[0]}" if Ellipsis in inner else f"({', '.join(items)})"
    if origin is not None:
        words = " → ".join(type_text(item) for item in inner)
        return f"mapping of {words}" if issubclass(origin, Mapping) else f"{origin.__name__} of {words}"
    if inspect.isclass(annotation) and issubclass(annotation, Spec):
        return f"[{annotation.__name__}]({room_of(annotation)}.md#{annotation.__name__.lower()})"
    if annotation is None or annotation is type(None):
        return "`None`"
    return (
        "any"
        if annotation is Any or isinstance(annotation, TypeVar)
        else f"`{getattr(annotation, '__name__', annotation)}`"
    )


def command_page() -> str:
    """Writes the help of every command."""
    [group] = [value for value in vars(cli).values() if isinstance(value, click.Group)]
    width: dict[str, Any] = {"max_content_width": 100, "terminal_width": 100}
    context = click.Context(group, info_name="prefdata", **group.context_settings, **width)
    sections = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context, **width)
        sections.append(f"## {name}\n\n```text\n{command.get_help(inner)}\n```")
    return "\n\n".join(["# Commands", _MADE, *sections]) + "\n"


def api_page(title: str, modules: Iterable[str], named: set[type[Spec]]) -> str:
    """Writes the page of some modules: the site fills it from their docstrings. Parts in `named` are left out."""
    blocks = []
    for name in modules:
        module = importlib.import_module(name)
        values = {each: getattr(module, each) for each in module.__all__}
        others = {each: value for each, value in values.items() if value not in named and not each.startswith("Any")}
        functions_first = sorted(others, key=lambda each: not inspect.isfunction(others[each]))
        blocks += [f"## {name}", *(api_entry(name, each, others[each]) for each in functions_first)]
    return "\n\n".join([f"# {title}", _MADE, *blocks]) + "\n"


def api_entry(module: str, name: str, value: Any) -> str:
    """Writes the directive of Sphinx that documents a public name; of a part its fields, too, as a table."""
    path, fields = f"{module}.{name}", ""
    if inspect.isfunction(value):
        lines = [f".. autofunction:: {path}"]
    elif not inspect.isclass(value):
        lines = [f".. autodata:: {path}", "   :no-value:"]
    elif issubclass(value, Spec):
        methods = [key for key, own in vars(value).items() if not key.startswith("_") and is_method(own)]
        lines = [f".. autoclass:: {path}()", *([f"   :members: {', '.join(methods)}"] if methods else [])]
        fields = field_table(value)
    else:
        lines = [f".. autoclass:: {path}", "   :members:"]
    block = "```{eval-rst}\n" + "\n".join(lines) + "\n```"
    return f"{block}\n\n{fields}" if fields else block


def is_method(value: Any) -> bool:
    """Returns whether an attribute of a class is a method or property with a docstring of its own."""
    inner = getattr(value, "__func__", getattr(value, "fget", value))
    return inspect.isfunction(inner) and bool(inner.__doc__)


def index_page(rooms: Mapping[str, Iterable[type[Spec]]]) -> str:
    """Writes the list of pages with the parts on each."""
    lines = ["- [Commands](commands.md)"]
    lines += [
        f"- [{ROOMS[room]}]({room}.md): " + ", ".join(f"`{part.__name__}`" for part in parts)
        for room, parts in rooms.items()
    ]
    lines += [
        f"- [{title}]({page}.md): " + ", ".join(f"`{name}`" for name in modules)
        for page, (title, modules) in API.items()
    ]
    lines += ["- [Every message](messages.md)"]
    tree = ["```{toctree}", ":hidden:", "", "commands", *rooms, *API, "messages", "```"]
    return "\n\n".join(["# Reference", _MADE, "\n".join(lines), "\n".join(tree)]) + "\n"


def main() -> None:
    """Writes all pages."""
    made = pages()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(made)} pages in {FOLDER}\n")


if __name__ == "__main__":
    main()
