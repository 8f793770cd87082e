"""Python code of the user's own: named by import path, found, hashed, and run only where the user allows it.

A local recipe file runs because its owner asked for it. Code that a JSON recipe or a published dataset merely names
runs only within `code_allowed`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from prefdata.errors import RecipeError

__all__ = [
    "IMPORT_PATH",
    "Code",
    "allowing_code",
    "code_allowed",
    "code_is_allowed",
    "file_of",
    "frames_of",
    "is_importable",
    "load_from",
    "path_of",
    "run_file",
]

IMPORT_PATH = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
"""Pattern of an import path, `module:name`."""

_T = TypeVar("_T")
_folders: ContextVar[tuple[str, ...] | None] = ContextVar("folders of code that the user allows", default=None)
_loaded: list[tuple[tuple[str, str, str], ModuleType]] = []
"""Modules that were run from a file, in that order, each with its name, its file and the SHA-256 of its bytes."""
_neighbours: dict[str, tuple[Path, str]] = {}
"""Modules that recipes imported from their own folder: name → file, SHA-256."""


@contextmanager
def code_allowed(*folders: str | Path) -> Iterator[None]:
    """Allows parts that are Python code, within the block.

    Args:
        folders: where their modules are looked for first; afterwards where Python looks.
    """
    token = _folders.set(tuple(str(Path(folder).resolve()) for folder in folders))
    try:
        yield
    finally:
        _folders.reset(token)


def allowing_code(allowed: bool, *folders: str | Path) -> AbstractContextManager[None]:
    """Allows code within the block if `allowed` is set; otherwise changes nothing.

    Args:
        allowed: whether the user allows code.
        folders: see `code_allowed`; without any, the current folder.
    """
    return code_allowed(*(folders or (".",))) if allowed else nullcontext()


def code_is_allowed() -> bool:
    """Tells whether the caller runs within `code_allowed`."""
    return _folders.get() is not None


def path_of(thing: Any) -> str:
    """Gives the import path of a function or class: `module:name`.

    Raises:
        ValueError: it has none, because it is a lambda, is defined inside a function or class, or belongs to the
            running script or session.
    """
    _home(thing)
    path: str = f"{thing.__module__}:{thing.__qualname__}"
    return path


def file_of(thing: Any) -> Path:
    """Gives the file that defines a function or class.

    Raises:
        ValueError: see `path_of`.
    """
    return Path(str(_home(thing).__file__))


def is_importable(thing: Any) -> bool:
    """Tells whether another process finds a function or class by its name alone, without the folder of its file."""
    home = sys.modules.get(thing.__module__)
    return home is not None and vars(home).get(thing.__qualname__) is thing and thing.__module__ not in _neighbours


def load_from(folder: str, path: str) -> Any:
    """Imports what an import path names, from a folder whose code this process may run."""
    with code_allowed(folder):
        return Code("the part", path).load()


def run_file(file: Path) -> dict[str, Any]:
    """Runs a local Python file, from whose folder it may import, and returns the names that it defines."""
    name = file.stem if file.stem.isidentifier() else "__prefdata_recipe__"
    folder = file.resolve().parent
    _forget_neighbours(folder)
    before = set(sys.modules)
    try:
        with _first_on_the_path(str(folder)):
            module = _run(name, file.resolve(), file.read_bytes())
    finally:
        for new in set(sys.modules) - before:
            if (source := _neighbour(new, folder)) is not None:
                _neighbours[new] = (source, _hash_of(source))
    return vars(module)


def _forget_neighbours(folder: Path) -> None:
    """Forgets the modules of another folder, or all of this one if a file has changed: they import each other."""
    as_before = all(
        _home_of(name, where) == folder and where.exists() and _hash_of(where) == sha256
        for name, (where, sha256) in _neighbours.items()
    )
    if not as_before:
        for name in _neighbours:
            sys.modules.pop(name, None)
        _neighbours.clear()


def _neighbour(name: str, folder: Path) -> Path | None:
    """Gives the file of a module, or the folder of a package without one, that was imported from a recipe's folder."""
    top, module = name.partition(".")[0], sys.modules[name]
    file = getattr(module, "__file__", None)
    source = Path(file or next(iter(getattr(module, "__path__", ())), ""))
    ours = top != "prefdata" and (source.suffix == ".py" or source.is_dir())
    return source if ours and _home_of(name, source) == folder else None


def _home_of(name: str, source: Path) -> Path:
    """Gives the folder from which a module must have been imported by its name."""
    package = source if source.is_dir() else source.parent if source.name == "__init__.py" else source.with_suffix("")
    return Path(*package.parts[: len(package.parts) - 1 - name.count(".")])


def _hash_of(source: Path) -> str:
    return _sha256(source.read_bytes()) if source.is_file() else ""


def frames_of(error: BaseException, folder: Path) -> list[str]:
    """Lists the frames of an error within a folder, as a traceback shows them; installed packages are not in it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(Path(frame.filename), folder)]
    return [line for text in traceback.format_list(own) for line in text.rstrip().split("\n")]


def _is_own(file: Path, folder: Path) -> bool:
    ours = Path(__file__).parents[1]
    inside = folder in file.parents and ours not in file.parents
    return inside and not {"site-packages", "dist-packages"} & set(file.parts)


@dataclass(frozen=True)
class Code:
    """A function or class that a recipe names.

    Args:
        what: what it is in the recipe, for messages: `the pair rule`.
        path: its import path.
    """

    what: str
    path: str

    def check_allowed(self) -> None:
        """Checks that the user allows code.

        Raises:
            RecipeError: the caller does not run within `code_allowed`.
        """
        if not code_is_allowed():
            raise RecipeError(
                f"{self.what} {self.path!r} is Python code, which runs only where you allow it",
                hint="read the code, then give --allow-code (in Python: `with code_allowed(folder):`)",
            )

    def sha256(self) -> str:
        """Hashes the file that defines it, without running it (a package around it runs).

        Raises:
            RecipeError: code is not allowed, or there is no such module.
        """
        self.check_allowed()
        with _first_on_the_path(*(_folders.get() or ())):
            return _sha256(self._file().read_bytes())

    def load(self) -> Any:
        """Imports it.

        Raises:
            RecipeError: code is not allowed, there is no such module or name, or the module fails.
        """
        self.check_allowed()
        module, _, name = self.path.partition(":")
        with _first_on_the_path(*(_folders.get() or ())):
            file = self._file()
            # Not by its name, under which Python may know the module of another recipe, or this one before an edit.
            here = "." not in module and str(file.parent) in (_folders.get() or ())
            loaded = self.guarded(lambda: _from_file(module, file) if here else importlib.import_module(module))
        found = getattr(loaded, name, None)
        if not callable(found):
            raise self._missing(f"the module {module!r} has no function {name!r}")
        return found

    def guarded(self, call: Callable[[], _T]) -> _T:
        """Calls the user's code; what it raises is the user's to fix, and the message says where.

        Raises:
            RecipeError: the code raised something.
        """
        try:
            return call()
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
            raise RecipeError(f"{self.what} {self.path!r} failed: {type(error).__name__}: {error}{where}") from error

    def _file(self) -> Path:
        module = self.path.partition(":")[0]
        for folder in _folders.get() or ():
            if "." not in module and (file := Path(folder) / f"{module}.py").is_file():
                return file
        try:
            found = importlib.util.find_spec(module)
        except (ModuleNotFoundError, ValueError):
            found = None
        if found is None or found.origin is None or not Path(found.origin).is_file():
            raise self._missing(f"there is no module {module!r}")
        return Path(found.origin)

    def _missing(self, why: str) -> RecipeError:
        folders = ", ".join(repr(folder) for folder in _folders.get() or ()) or "none"
        return RecipeError(
            f"{self.what} {self.path!r} can't be loaded: {why}",
            valid=f"a function `module:function`; modules are looked for in {folders}, then where Python looks",
        )


def _home(thing: Any) -> ModuleType:
    """The module in whose file a function or class is defined under its own name."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    known = [sys.modules.get(str(module)), *(home for _, home in reversed(_loaded))]
    for home in known:
        named = home is not None and home.__name__ == module and vars(home).get(str(name)) is thing
        if home is not None and named and module not in ("__main__", "__prefdata_recipe__"):
            if Path(getattr(home, "__file__", None) or "").is_file():
                return home
            break
    if module == "__main__":
        why = "it belongs to the running script or session"
    elif module == "__prefdata_recipe__":
        why = "the name of its file is not a Python name"
    elif name is None or "<lambda>" in name:
        why = "it has no name of its own"
    elif "<locals>" in name or "." in name:
        why = "it is defined inside a function or class"
    else:
        why = "no file defines it under this name"
    raise ValueError(
        f"{name or type(thing).__name__} can't be a part of a recipe, because {why}; define it by `def` or `class` at "
        "the top of the recipe's file, or of a module that can be imported"
    )


def _from_file(module: str, file: Path) -> ModuleType:
    """The module of a file, run once for each content."""
    content = file.read_bytes()
    if _neighbours.get(module) == (file, _sha256(content)) and module in sys.modules:
        return sys.modules[module]
    key = (module, str(file), _sha256(content))
    return next((loaded for known, loaded in reversed(_loaded) if known == key), None) or _run(module, file, content)


def _run(name: str, file: Path, content: bytes) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = str(file)
    before = sys.modules.get(name)
    # Annotations of its classes are resolved through this entry.
    sys.modules[name] = module
    try:
        exec(compile(content, str(file), "exec"), vars(module))
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
    _loaded.append(((name, str(file), _sha256(content)), module))
    return module


@contextmanager
def _first_on_the_path(*folders: str) -> Iterator[None]:
    importlib.invalidate_caches()
    before = list(sys.path)
    sys.path[:0] = folders
    try:
        yield
    finally:
        sys.path[:] = before


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
