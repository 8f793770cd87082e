"""The environment of worker processes: what an engine needs, and no key, no token, no path to import from."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from prefdata.spec import JSON

__all__ = ["PASS_ON", "import_folders", "tracker_keys", "tracker_prefixes", "worker_command", "worker_environment"]

PASS_ON = "PREFDATA_WORKER_ENV"
"""Environment variable of the user's: names of further variables that workers get, with commas between."""

_NAMES = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TERM", "HOSTNAME"}
    | {"TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV", "CC", "CXX", "MAX_JOBS"}
    # The user's own: a recipe sets them only where `env` is granted.
    | {"LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "MASTER_ADDR", "MASTER_PORT"}
    | {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
    | {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
    | {"GOMP_SPINCOUNT", "DO_NOT_TRACK", "SAFETENSORS_FAST_GPU"}
)
"""Variables that workers get, in upper or lower case."""
_PREFIXES = (
    *("LC_", "XDG_", "CONDA_", "SLURM_", "PBS_", "RAY_", "PREFDATA_"),
    *("FI_", "UCX_", "PMI_", "PMIX_", "OMPI_", "MPICH_", "I_MPI_"),
    *("CUDA_", "NVIDIA_", "NCCL_", "CUBLAS_", "CUDNN_", "HIP_", "HSA_", "ROCM_", "ROCR_", "ONEAPI_", "SYCL_", "ZE_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "GLOO_", "MALLOC_", "MIMALLOC_"),
    *("TORCH_", "TORCHINDUCTOR_", "PYTORCH_", "TRITON_", "VLLM_", "FLASHINFER_", "ACCELERATE_", "DS_", "TRL_"),
    *("HF_", "TRANSFORMERS_", "TOKENIZERS_", "HUGGINGFACE_HUB_"),
)
_SECRET = re.compile(r"(^|_)(API_?KEY|ACCESS_?KEY|KEY|TOKEN|TOKEN_PATH|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(_|$)", re.I)
_TRACKERS = {"wandb": "WANDB_", "comet": "COMET_", "mlflow": "MLFLOW_", "neptune": "NEPTUNE_", "swanlab": "SWANLAB_"}
"""`report_to` of a training → beginning of the names of its variables, keys among them."""

_START = r"""
import runpy, sys
module, ours, *given = sys.argv[1:]
sys.path[:0] = ours.split("\n")
sys.path += given
sys.argv = [module]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
"""Starts a worker: the folders of its own package come first, those of the user's `PYTHONPATH` last."""


def worker_environment(own: Mapping[str, str], *, with_prefixes: tuple[str, ...] = ()) -> dict[str, str]:
    """Gives the environment of a worker: an allow-list of this process's variables, and the worker's own.

    No variable with the name of a key, token or password passes, nor any `PYTHON...`, of whomever.

    Args:
        own: variables of this worker, which override those of this process.
        with_prefixes: beginnings of further names that pass, keys among them.
    """
    passed_on = {name.strip() for name in os.environ.get(PASS_ON, "").split(",")}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in passed_on or name.startswith(with_prefixes) or (_is_needed(name) and not _SECRET.search(name))
    }
    # Also what an engine starts by itself imports nothing from the current folder.
    return {**kept, **{name: own[name] for name in own if not name.startswith("PYTHON")}, "PYTHONSAFEPATH": "1"}


def tracker_prefixes(report_to: JSON) -> tuple[str, ...]:
    """Lists how the names of the variables begin that the trackers of a training read.

    Args:
        report_to: TRL's argument of this name.
    """
    return tuple(prefix for name, prefix in _TRACKERS.items() if name in str(report_to))


def tracker_keys(report_to: JSON) -> list[str]:
    """Lists the variables of this process that hold a key or token of these trackers."""
    prefixes = tracker_prefixes(report_to)
    return sorted(name for name in os.environ if prefixes and name.startswith(prefixes) and _SECRET.search(name))


def worker_command(module: str) -> list[str]:
    """Gives the command that runs a module of this process in another one, isolated from folders and `PYTHON...`."""
    ours, given = import_folders(module)
    return [sys.executable, "-P", "-E", "-c", _START, module, "\n".join(ours), *given]


def import_folders(module: str) -> tuple[list[str], list[str]]:
    """Lists where a worker may import from besides the installed packages.

    Returns:
        The folders of the module's package and of prefdata; and those of the user's own `PYTHONPATH`, as far as they
        are absolute: a relative one is whatever folder the command runs in.
    """
    spec = importlib.util.find_spec(module.partition(".")[0])
    origin = None if spec is None else spec.origin
    package = [] if origin is None else [Path(origin).parent.parent if "." in module else Path(origin).parent]
    ours = list(dict.fromkeys(map(str, (*package, Path(__file__).resolve().parents[2]))))
    given = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(folder).is_absolute()]
    return ours, given


def _is_needed(name: str) -> bool:
    return name.upper() in _NAMES or name.startswith(_PREFIXES)
