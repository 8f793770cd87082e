"""The journal: what was appended is read back, whatever became of the file's end."""

from __future__ import annotations

import subprocess
import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.errors import StoreError
from prefdata.flow.journal import Journal
from prefdata.flow.store import StageFolder

RECORDS = [{"key": f"p{number}/0", "text": "ä\n\u2028 " * number, "score": number / 3} for number in range(5)]


def written(path, records=RECORDS) -> bytes:
    journal = Journal(path)
    for record in records:
        journal.append(record)
    journal.close()
    return path.read_bytes()


def test_records_come_back_in_the_order_in_which_they_were_appended(tmp_path):
    written(tmp_path / "journal")
    assert list(Journal(tmp_path / "journal").read()) == RECORDS


def test_a_journal_that_is_not_there_holds_nothing_and_is_not_made_by_reading(tmp_path):
    assert list(Journal(tmp_path / "journal").read()) == []
    assert not (tmp_path / "journal").exists()


def test_every_line_carries_the_checksum_of_its_text(tmp_path):
    for line in written(tmp_path / "journal").splitlines():
        crc, text = line.split(b" ", 1)
        assert int(crc, 16) == zlib.crc32(text)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 10**6), tail=st.binary(max_size=30))
def test_wherever_the_end_is_torn_the_whole_lines_stay_and_what_is_appended_next_is_read(tmp_path_factory, cut, tail):
    path = tmp_path_factory.mktemp("torn") / "journal"
    whole = written(path)
    cut %= len(whole)
    path.write_bytes(whole[:cut] + tail.replace(b"\n", b""))
    lines = whole[:cut].count(b"\n")
    # Without a line feed even the right bytes are no whole line.
    assert list(Journal(path).read()) == RECORDS[:lines]
    assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:lines])
    written(path, [{"after": 1}])
    assert list(Journal(path).read()) == [*RECORDS[:lines], {"after": 1}]


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_a_changed_byte_is_found_and_no_changed_record_is_ever_read(tmp_path_factory, place, flip):
    path = tmp_path_factory.mktemp("damaged") / "journal"
    whole = written(path)
    place %= len(whole)
    changed = whole[place] ^ flip
    path.write_bytes(whole[:place] + bytes([changed]) + whole[place + 1 :])
    journal = Journal(path)
    found = list(journal.read())
    number = whole[:place].count(b"\n")
    # Without the line feed between them two lines are one, and without the last one the line is torn.
    joined = whole[place : place + 1] == b"\n"
    assert found == RECORDS[:number] + RECORDS[number + 1 + joined :]
    torn = joined and number == len(RECORDS) - 1
    assert journal.damaged == (0 if torn else 2 if changed == ord("\n") else 1)
    written(path, [{"after": 1}])
    assert list(Journal(path).read()) == [*found, {"after": 1}]


def test_a_huge_record_is_kept_whole(tmp_path):
    huge = {"key": "p/0", "text": "snow \u2603 and a line\n" * 1_000_000}
    written(tmp_path / "journal", [RECORDS[0], huge, RECORDS[1]])
    assert list(Journal(tmp_path / "journal").read()) == [RECORDS[0], huge, RECORDS[1]]


def test_a_journal_can_be_appended_to_after_it_was_read_and_closed(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.append(RECORDS[0])
    assert list(journal.read()) == RECORDS[:1]
    journal.append(RECORDS[1])
    journal.sync()
    journal.close()
    journal.append(RECORDS[2])
    journal.close()
    assert list(journal.read()) == RECORDS[:3]


def test_the_journals_of_two_shards_are_two_files_and_removing_one_leaves_the_other(tmp_path):
    stage = StageFolder(tmp_path)
    first, second = stage.journal(0), stage.journal(1)
    for one, other in zip(RECORDS[:2], RECORDS[2:], strict=False):
        first.append(one)
        second.append(other)
    first.close(remove=True)
    second.close()
    assert list(stage.journal(0).read()) == []
    assert list(stage.journal(1).read()) == RECORDS[2:4]
    stage.journal(7).close(remove=True)


def test_what_was_appended_is_there_after_a_kill_without_any_closing(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from prefdata.flow.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for number in range(100): journal.append({'number': number})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "journal")], check=False)
    assert done.returncode == -9
    assert [record["number"] for record in Journal(tmp_path / "journal").read()] == list(range(100))


def test_a_journal_that_meets_the_end_of_the_disk_says_so_and_keeps_what_it_has(tmp_path):
    code = (
        "import resource, signal, sys; from pathlib import Path; from prefdata.flow.journal import Journal\n"
        "from prefdata.errors import StoreError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "try:\n"
        "    for number in range(100): journal.append({'number': number, 'text': 'x' * 100})\n"
        "except StoreError as error:\n"
        "    print(error)\n"
    )
    path = tmp_path / "journal"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "a file would be larger than this system allows" in done.stdout
    assert path.stat().st_size == 1000
    assert [record["number"] for record in Journal(path).read()] == list(range(7))


def test_a_value_without_a_json_form_never_reaches_the_file(tmp_path):
    from prefdata.errors import RecipeError

    journal = Journal(tmp_path / "journal")
    with pytest.raises(RecipeError, match="no stable JSON form"):
        journal.append({"score": float("nan")})
    journal.close()
    assert not (tmp_path / "journal").exists()


def test_a_journal_in_a_folder_that_is_a_file_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="a part of the path is a file"):
        Journal(tmp_path / "file" / "journal").append({})


def test_a_page_of_zeros_in_the_middle_costs_the_lines_that_it_covers(tmp_path):
    records = [{"key": f"p{number}", "text": "x" * 300} for number in range(100)]
    whole = written(tmp_path / "journal", records)
    (tmp_path / "journal").write_bytes(whole[:8192] + bytes(4096) + whole[12288:])
    journal = Journal(tmp_path / "journal")
    ends = [whole[: at + 1].count(b"\n") for at in (8191, 12287)]
    assert list(journal.read()) == records[: ends[0]] + records[ends[1] + 1 :]
    assert journal.damaged == 1
    assert (tmp_path / "journal").stat().st_size == len(whole)


def test_a_journal_that_is_a_link_is_refused_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "notes").write_text("years of work")
    (tmp_path / "journal").symlink_to(tmp_path / "notes")
    with pytest.raises(StoreError, match="it is a link"):
        Journal(tmp_path / "journal").append({})
    with pytest.raises(StoreError, match="it is a link"):
        list(Journal(tmp_path / "journal").read())
    assert (tmp_path / "notes").read_text() == "years of work"
