"""`prefdata evaluate`, killed at some moment and run again: what was kept is not asked again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

from chat_server import Reply, completion, serving
from evaluated import write_baseline


def kept(folder) -> list[str]:
    """Keys of the answers whose lines are whole."""
    lines = [line for path in folder.rglob("answers-*.jsonl") for line in path.read_bytes().split(b"\n")[:-1]]
    return [json.loads(line.partition(b" ")[2])["key"] for line in lines]


def test_killed_while_answering_it_asks_only_for_the_rest(tmp_path):
    write_baseline(tmp_path, 40)
    with serving(lambda text, *_: Reply(body=completion(f"Answer to {text}"), delay_s=0.05)) as server:
        command = [
            *(sys.executable, "-m", "prefdata", "evaluate", "served", "--endpoint", server.url, "--out", "out"),
            *("--baseline", "baseline.json", "--json"),
        ]
        options = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}}
        process = subprocess.Popen(command, start_new_session=True, stdout=-3, stderr=-3, **options)
        while process.poll() is None and len(kept(tmp_path / "out")) < 10:
            time.sleep(0.01)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        before = kept(tmp_path / "out")
        assert 10 <= len(before) < 40
        asked = len(server.bodies)
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)
        assert done.returncode == 0, done.stderr[-3000:]
        assert len(server.bodies) - asked == 40 - len(before)
    assert json.loads(done.stdout)["n_answers"] == 40
    after = kept(tmp_path / "out")
    assert after[: len(before)] == before
    assert len(set(after)) == len(after) == 40
    outputs = json.loads((tmp_path / "out" / "evaluation" / "alpaca_eval" / "model_outputs.json").read_text())
    assert all(row["output"] == f"Answer to {row['instruction']}" for row in outputs)
