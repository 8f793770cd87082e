"""What looks at a dataset of prefdata needs no package but those that a plain installation brings."""

from __future__ import annotations

from pathlib import Path

import pytest
from table_forms import table_of

EXTRAS = (
    *("huggingface_hub", "datasets", "torch", "transformers", "trl", "openai", "matplotlib", "vllm", "tokenizers"),
    *("safetensors", "gguf", "pandas"),
)
PLAIN = f"""
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, NotInstalled())
from prefdata.cli.main import main
main()
"""
LOOKS = (
    *(("inspect",), ("inspect", "--sort", "margin"), ("inspect", "--html", "page.html"), ("audit",), ("verify",)),
    *(("diff", "SAME"), ("what-if", "--rules", "best_vs_worst")),
)


@pytest.fixture(scope="module")
def datasets_of_ours(tmp_path_factory) -> Path:
    """A build, and a table's pairs with and without all answers."""
    from prefdata import build, pair

    folder = tmp_path_factory.mktemp("plain")
    build("ultrafeedback_binarized", folder / "build", profile="cpu")
    rows = [
        {"prompt": f"question {n}?", "response": f"answer {k} of {n}", "score": float(k)}
        for n in range(4)
        for k in (1, 2)
    ]
    table = table_of("jsonl", rows, folder)
    pair(table, "best_vs_worst", folder / "pairs")
    pair(table, "best_vs_worst", folder / "all", with_candidates=True)
    return folder


@pytest.mark.parametrize("name", ["build", "pairs", "all"])
@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
def test_a_dataset_of_ours_is_read_with_a_plain_installation(fresh, datasets_of_ours, tmp_path, look, name):
    verb, *options = look
    where = str(datasets_of_ours / name)
    said = fresh(verb, where, *(where if option == "SAME" else option for option in options), code=PLAIN, cwd=tmp_path)
    if (verb, name) == ("what-if", "pairs"):
        assert said.code == 2
        assert "holds no answers" in said.err
    else:
        assert said.code == 0, said.err


def test_a_table_becomes_pairs_with_a_plain_installation(fresh, datasets_of_ours, tmp_path):
    table = next(datasets_of_ours.glob("*.jsonl"))
    said = fresh("pair", str(table), "--rule", "best_vs_worst", "--out", "mine", code=PLAIN, cwd=tmp_path)
    assert said.code == 0, said.err
