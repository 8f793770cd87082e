"""Ctrl-C at every request of a push: its message says what is true, and the next run makes no second commit."""

from __future__ import annotations

import re

import pytest
from small_dataset import commits, files, local

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


class Stop:
    """Presses Ctrl-C at one request: before it is sent, or after the Hub has done what was asked."""

    def __init__(self, monkeypatch, at: int, *, after: bool) -> None:
        from huggingface_hub.utils import httpx

        self.requests, self.at, self.after = 0, at, after
        real = httpx.Client.send

        def send(client, request, **options):
            number, self.requests = self.requests, self.requests + 1
            if number == self.at and not self.after:
                raise KeyboardInterrupt
            answer = real(client, request, **options)
            if number == self.at:
                raise KeyboardInterrupt
            return answer

        monkeypatch.setattr(httpx.Client, "send", send)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_stopped_push_says_what_is_true(near, folder, prefdata, monkeypatch, caplog, after):
    caplog.set_level("ERROR")
    told = set()
    for at in range(200):
        # As if nothing had ever been sent: each run then has the same requests.
        near.hub.repos.clear()
        for blob in near.hub.blob_path("0" * 64).parents[1].rglob("*"):
            if blob.is_file():
                blob.unlink()
        with monkeypatch.context() as patch:
            stop = Stop(patch, at, after=after)
            said = prefdata("push", folder, "alice/prefs", "--tag", "v1")
        if stop.requests <= at:
            break
        there = ("dataset", "alice/prefs") in near.hub.repos and files(near.hub) == local(folder)
        assert "Traceback" not in said.err
        message = said.err.partition("prefdata: ")[2]
        told.add((said.code, re.split("[:;]", message)[0]))
        if said.code == 130:
            assert not there, at
            assert "not published: stopped before a commit was sent" in said.err or "alice/prefs" not in said.err
        else:
            assert said.code == 3, (at, said.err)
            assert re.match(rf"unknown: .*{re.escape(near.hub.url)}/datasets/alice/prefs|published: http", message), (
                message
            )
            assert there or message.startswith("unknown: ")
            again = prefdata("push", folder, "alice/prefs", "--tag", "v1")
            assert again.code == 0
            assert len([sha for sha in commits(near.hub) if sha]) == 2
            assert files(near.hub) == local(folder)
    assert stop.requests > 10
    assert {(3, "unknown"), (3, "published"), (130, "stopped")} <= told
