"""Every objective trains for real: 20 steps on a tiny model, and what goes with them."""

from __future__ import annotations

import math

import pytest
from trainings import run_script

pytestmark = pytest.mark.model

# Targets of self-play are scores / beta: with the published beta of 0.001 20 steps move the loss little.
OBJECTIVES = {
    "wpo": {},
    "dpo": {"beta": 0.1},
    "dpo_norm": {},
    "sppo": {"beta": 0.05},
    "sppo_single": {"beta": 0.05},
    "gpo": {"beta": 0.5, "stop_after": None},
    "simpo": {"beta": 2.0},
    "cpo": {},
    "kto": {"beta": 0.1},
}

TRAIN = f"""
import json
from pathlib import Path
from trainings import train_here, workshop
import torch
torch.set_num_threads(1)
here = workshop(Path(".").absolute())
report = {{}}
for kind, fields in {OBJECTIVES!r}.items():
    report[kind] = train_here(here, kind, kind, epochs=2, trl={{"max_steps": 20, "save_steps": 20}}, **fields)
steps = {{"max_steps": 6, "save_steps": 6}}
for alignment in ("greedy", "none"):
    report["wpo-" + alignment] = train_here(here, "wpo", "wpo-" + alignment, alignment=alignment, trl=steps)
report["trl"] = train_here(here, "dpo", "trl", trl=dict(steps, loss_type=["apo_zero", "sft"], loss_weights=[1.0, 0.1]))
report["trl-plain"] = train_here(here, "dpo", "trl-plain", trl=steps, beta=0.1)
report["padded"] = train_here(here, "dpo", "padded", trl=dict(steps, pad_to_multiple_of=32), beta=0.1)
report["tail"] = train_here(here, "dpo", "tail", trl=dict(steps, ld_alpha=0.5), beta=0.1)
report["online"] = train_here(here, "wpo", "online", cache_reference=False, trl=steps)
report["cached"] = train_here(here, "wpo", "cached", trl=steps)
report["stopped"] = train_here(here, "dpo", "stopped", epochs=2, stop_after=0.5, schedule="linear")
report["adapter"] = train_here(here, "dpo", "adapter", beta=0.1, learning_rate=1e-2, lora={{"rank": 4}}, trl=steps)
print("\\n" + json.dumps(report))
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return run_script(tmp_path_factory.mktemp("objectives"), TRAIN)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_its_loss_falls_in_20_steps(report, kind):
    losses = report[kind]["losses"]
    assert len(losses) == 20
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    assert len(report[kind]["evaluated"]) >= 1


def test_the_first_loss_is_the_known_value(report):
    assert report["dpo"]["losses"][0] == pytest.approx(math.log(2), abs=1e-5)
    assert report["dpo_norm"]["losses"][0] == pytest.approx(math.log(2), abs=1e-5)
    assert report["kto"]["losses"][0] == pytest.approx(0.5, abs=1e-5)
    # Weights of at most 1.
    assert 0 < report["wpo"]["losses"][0] < math.log(2)


def test_one_reference_serves_every_loss_that_shares_its_tokens(report):
    computed = {kind for kind, told in report.items() if told["reference_batches"]}
    # wpo keeps 1,800 tokens of a prompt and dpo_norm sets no limit of its own: other limits are other keys.
    assert {"wpo", "dpo", "dpo_norm", "tail"} <= computed
    assert (
        computed
        & {"sppo", "sppo_single", "gpo", "wpo-greedy", "wpo-none", "trl", "trl-plain", "padded", "stopped", "adapter"}
        == set()
    )
    assert report["sppo"]["keys"] == report["dpo"]["keys"]
    assert report["tail"]["keys"] != report["dpo"]["keys"]


def test_padding_to_a_multiple_is_trls_option(report):
    # A batch has 8 sequences, or 4 at the end of the test split, of a length that 32 divides.
    assert report["padded"]["tokens_computed"] % (4 * 32) == 0
    assert report["padded"]["tokens_computed"] > report["tail"]["tokens_computed"]
    assert report["padded"]["losses"] == pytest.approx(report["trl-plain"]["losses"], abs=1e-5)


def test_alignments_weigh_pairs_differently(report):
    first = {name: report[name]["losses"][0] for name in ("cached", "wpo-greedy", "wpo-none")}
    # log p alone is lower than log p - log max p, and so are the weights; an untrained model spreads evenly.
    assert first["wpo-none"] < 1e-3 < first["wpo-greedy"] < first["cached"]


def test_the_cached_reference_gives_the_losses_of_the_one_that_runs_along(report):
    assert report["cached"]["losses"] == pytest.approx(report["online"]["losses"], abs=1e-5)


def test_stopping_early_keeps_the_schedule_of_all_epochs(report):
    assert report["stopped"]["rates"] == pytest.approx([1e-3 * (1 - step / 20) for step in range(5)])
    assert report["stopped"]["steps"] == 5


def test_an_adapter_is_all_that_is_trained(report):
    assert report["adapter"]["losses"][-1] < report["adapter"]["losses"][0]
    assert "adapter_model.safetensors" in report["adapter"]["files"]
    assert "model.safetensors" not in report["adapter"]["files"]


PLANT = """
import json, os
from pathlib import Path
import numpy as np, pyarrow.parquet as pq
from prefdata.errors import UserError
from tiny_model import write_model
from trainings import train_here, workshop
import torch
torch.set_num_threads(1)
here = workshop(Path(".").absolute())
steps = {"max_steps": 1, "save_steps": 1}
report = {}


def first(name, **fields):
    told = train_here(here, fields.pop("kind", "dpo"), name, **{"beta": 0.1, "trl": steps, **fields})
    report[name] = [told["reference_batches"], told["losses"][0]]
    return told


told = first("first")
first("other rate", learning_rate=1e-4, beta=0.2)
first("other limit", max_length=64, max_prompt_length=None, truncation="answer_start")
first("other kernel", attention="eager")
file = here / "model" / "model.safetensors"
times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
write_model(here / "model", seed=5)
os.utime(file, ns=times)
first("other model")
template = here / "model" / "chat_template.jinja"
template.write_text(template.read_text().replace("\\n{% endfor %}", "\\n\\n{% endfor %}"))
known = first("other template")
cache = here / "references" / (known["keys"]["train"] + ".parquet")
content = bytearray(cache.read_bytes())
content[40] ^= 255
cache.write_bytes(content)
first("damaged file")
# Numbers of another model under the right key, in a file that is whole.
table = pq.ParquetFile(cache).read()
wrong = np.asarray(table["chosen"]) + 3 * (np.arange(table.num_rows) % 2)
pq.write_table(table.set_column(1, table.schema.field(1), [wrong.astype(np.float32)]), cache)
try:
    first("wrong")
except UserError as error:
    report["wrong"] = str(error)
print("\\n" + json.dumps(report))
"""


def test_a_stale_or_wrong_reference_is_never_used(tmp_path):
    report = run_script(tmp_path, PLANT)
    said = report.pop("wrong")
    assert "are not those of the model that training starts from" in said
    assert "ln 2 = 0.693147" in said
    assert [name for name, (batches, _) in report.items() if not batches] == ["other rate"]
    assert {name: loss for name, (_, loss) in report.items() if abs(loss - math.log(2)) > 1e-5} == {}
