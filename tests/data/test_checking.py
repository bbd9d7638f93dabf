"""The check of a data set: what it finds, what it remembers, and that nothing a decoder does takes it down."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from pumlc.data.__main__ import main
from pumlc.data.checking import Verdict, check_pictures, read_verdicts, write_verdicts
from pumlc.data.picture import PassingReason
from pumlc.data.quarantine import add_to_record, read_quarantine, read_record, write_quarantine
from pumlc.errors import InputError
from tests.data.grim import MINUTES, grim
from tests.data.odd_files import write_decodable, write_undecodable
from tests.data.photos import write_photos


@pytest.mark.parametrize("workers", [1, 3])
def test_a_worker_that_comes_to_grief_names_its_file(tmp_path, workers):
    names = ["a", "crash", "b", "leave", "hang", "c", "hog", "crash2", "d", "eio", "killed"]
    paths = [str(tmp_path / name) for name in names]
    for path in paths:
        Path(path).touch()
    found: dict[str, Verdict] = {}
    check_pictures(
        [*paths, str(tmp_path / "absent")],
        workers=workers,
        max_megapixels=1,
        patience=1.0,
        examine=grim,
        found=lambda path, verdict: found.update({os.path.basename(path): verdict}),
    )
    assert {name: verdict.reason for name, verdict in found.items()} == {
        **dict.fromkeys("abcd", ""),
        "crash": "makes its decoder crash (SIGSEGV)",
        "crash2": "makes its decoder crash (SIGSEGV)",
        "leave": "makes its decoder crash (exit status 3)",
        "hang": "takes longer than 1 seconds to decode",
        "hog": "was refused memory",
        "absent": "cannot be read: No such file or directory",
        "eio": "cannot be read: Input/output error",
        "killed": "makes its decoder crash (SIGKILL)",
    }
    # What the machine did is not remembered of the picture, and what could not be reached is not said of it.
    passing = {name for name, verdict in found.items() if verdict.size < 0}
    assert passing == {"hang", "absent", "eio", "killed"}
    assert {name for name in passing if isinstance(found[name].reason, PassingReason)} == {"absent", "eio"}
    by_path = {str(tmp_path / name): verdict for name, verdict in found.items()}
    write_verdicts(tmp_path / "checked", 1, by_path)
    remembered = read_verdicts(tmp_path / "checked", 1)
    assert remembered == {path: verdict for path, verdict in by_path.items() if verdict.size >= 0}


def test_what_could_not_be_reached_is_looked_at_again(tmp_path, monkeypatch, capsys):
    """It is not listed, what was known of it before stays, and the status says that the check is not complete."""
    write_photos(tmp_path / "data", 3)
    arguments = ["check", str(tmp_path / "data"), "--workers", "1"]
    assert main(arguments) == 0
    cache = (tmp_path / "data" / ".quarantine.tsv.checked").read_text()
    stat = os.stat

    def failing(path, *arguments, **options):
        if str(path).endswith("001.jpg"):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", failing)
    capsys.readouterr()
    assert main(arguments) == 1
    output = capsys.readouterr().out
    monkeypatch.undo()
    assert "0 cannot be used" in output
    assert "1 could not be looked at and are not listed. Check again:" in output
    assert f"{tmp_path / 'data' / '001.jpg'} cannot be read: Stale file handle" in output
    assert read_quarantine(tmp_path / "data" / "quarantine.tsv", tmp_path / "data") == {}
    assert (tmp_path / "data" / ".quarantine.tsv.checked").read_text() == cache
    assert main(arguments) == 0
    assert "3 pictures, 0 new or changed" in capsys.readouterr().out


def test_a_data_folder_that_goes_away_during_a_check(tmp_path, monkeypatch, capsys):
    write_photos(tmp_path / "data", 3)
    arguments = ["check", str(tmp_path / "data"), "--workers", "1", "--out", str(tmp_path / "q.tsv")]
    assert main(arguments) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    monkeypatch.setattr(
        "pumlc.data.__main__.check_pictures",
        lambda paths, **options: [(tmp_path / "data").rename(tmp_path / "away"), check_pictures(paths, **options)],
    )
    assert main(arguments) == 2
    assert f"The data folder {tmp_path / 'data'} is gone: No such file or directory" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_progress_is_shown(tmp_path):
    """On a terminal, of as many pictures as there are."""
    write_photos(tmp_path, 3)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))  # rows, columns
    command = [sys.executable, "-m", "pumlc.data", "check", str(tmp_path), "--workers", "1"]
    run = subprocess.run(command, stderr=theirs, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], timeout=MINUTES)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal says that nobody writes any more
        while part := os.read(ours, 1 << 16):
            shown += part
    os.close(ours)
    assert run.returncode == 0
    assert b"check:   0%|" in shown
    assert re.search(rb"check: 100%\|.*\| 3/3 \[.*picture", shown), shown


def test_command(tmp_path, capsys):
    write_decodable(tmp_path)
    bad = write_undecodable(tmp_path)
    files = {path for path in bad if path.is_file()}
    assert main(["check", str(tmp_path), "--workers", "1"]) == 0
    output = capsys.readouterr().out
    assert f"{len(list(tmp_path.glob('*.jpg'))) - 1} pictures" in output  # without the folder of that name
    assert f"{len(files)} cannot be used, listed in {tmp_path / 'quarantine.tsv'}." in output
    reasons = read_quarantine(tmp_path / "quarantine.tsv", tmp_path)
    assert {Path(path) for path in reasons} == files
    assert all(reasons[str(path)].startswith(bad[path]) for path in files)


def test_a_second_check_decodes_what_has_changed(tmp_path, capsys):
    paths = write_photos(tmp_path / "pictures", 4)
    arguments = ["check", str(tmp_path), "--workers", "1", "--out", str(tmp_path / "elsewhere.tsv")]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("4 pictures, 4 new or changed: 0 cannot be used")
    paths[2].write_bytes(paths[2].read_bytes()[:1000])
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("4 pictures, 1 new or changed: 1 cannot be used")
    assert list(read_quarantine(tmp_path / "elsewhere.tsv", tmp_path)) == [str(paths[2])]
    assert main([*arguments, "--max-megapixels", "0.01"]) == 0  # another limit, all anew
    assert capsys.readouterr().out.startswith("4 pictures, 4 new or changed: 4 cannot be used")


def test_known_pictures_are_not_opened(tmp_path):
    path = tmp_path / "crash.jpg"
    path.touch()
    status = path.stat()
    known = {str(path): Verdict(status.st_size, status.st_mtime_ns, "as before")}
    found = {}
    check_pictures([str(path)], workers=1, known=known, examine=grim, found=found.__setitem__)
    assert found == known


def test_a_damaged_memory_is_no_memory(tmp_path):
    path = tmp_path / "checked"
    path.write_bytes(b"file\tsize\n\xff\0\n")
    assert read_verdicts(path, 200) == {}
    assert read_verdicts(tmp_path / "absent", 200) == {}


@pytest.mark.parametrize("name", [".", "labels.csv"])
def test_what_a_layout_names_is_checked(name, picture_table, tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(picture_table, folder)
    (folder / "test_3.jpg").write_bytes(b"")
    assert main(["check", str(folder / name), "--layout", "csv", "--workers", "1"]) == 0
    assert capsys.readouterr().out.startswith("42 pictures, 42 new or changed: 1 cannot be used")
    assert list(read_quarantine(folder / "quarantine.tsv", folder)) == [str(folder / "test_3.jpg")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/none"], "none does not exist; the folder with the pictures was wanted there"),
        (["{}"], "holds no picture"),
        (["{}/labels.csv"], "labels.csv is a file; a folder with pictures was wanted. For a table, add --layout csv."),
        (["{}", "--workers", "0"], "--workers is 0"),
        (["{}/p", "--out", "{}/absent/q.tsv"], "absent cannot be written. Name the file to be written: --out FILE"),
    ],
    ids=str,
)
def test_what_cannot_be_checked(tmp_path, capsys, arguments, message):
    (tmp_path / "p").mkdir()
    (tmp_path / "labels.csv").touch()
    if arguments[0].endswith("p"):
        write_photos(tmp_path / "p", 1)
    assert main(["check", *(argument.format(tmp_path) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_a_quarantine_comes_back_as_written(tmp_path):
    root = tmp_path / "data"
    names = [str(root / "a\tb\n'\".jpg"), str(root / os.fsdecode(b"\xff.jpg")), str(tmp_path / "besides.jpg")]
    root.mkdir()
    for name in names:
        Path(name).write_text(name, errors="surrogateescape")
    written = {name: f"is damaged: {number}\t\n" for number, name in enumerate(names)}
    write_quarantine(tmp_path / "q.tsv", root, written)
    assert read_quarantine(tmp_path / "q.tsv", root) == written
    assert (tmp_path / "q.tsv").read_text(errors="replace").startswith("file\treason\t")
    root.rename(tmp_path / "other")
    moved = read_quarantine(tmp_path / "q.tsv", tmp_path / "other")
    assert list(moved)[1:] == [str(tmp_path / "other" / os.fsdecode(b"\xff.jpg")), names[2]]


def test_what_is_said_of_another_content_is_not_believed(tmp_path):
    repaired, as_before, by_hand = (tmp_path / f"{name}.jpg" for name in ("repaired", "as_before", "by_hand"))
    for path in (repaired, as_before, by_hand):
        path.write_bytes(b"damaged")
    write_quarantine(tmp_path / "q.tsv", tmp_path, {str(path): "is cut off" for path in (repaired, as_before)})
    with (tmp_path / "q.tsv").open("a") as file:
        file.write("by_hand.jpg\tis not mine\n")
    status = repaired.stat()
    repaired.write_bytes(b"as good")  # of the same size, and even at the same time
    os.utime(repaired, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.utime(as_before, (0, 0))  # as a copy of the data has it
    by_hand.write_bytes(b"changed")
    kept = {str(as_before): "is cut off"}
    assert read_quarantine(tmp_path / "q.tsv", tmp_path) == {**kept, str(by_hand): "is not mine"}
    assert read_record(tmp_path / "q.tsv", tmp_path) == kept
    as_before.unlink()
    assert list(read_quarantine(tmp_path / "q.tsv", tmp_path)) == [str(by_hand)]


def test_what_a_run_keeps_for_itself_may_be_torn(tmp_path):
    """Cut off at any byte, every row that is whole is read, and the next one is added to those."""
    paths = [tmp_path / f"{number}.jpg" for number in range(3)]
    for path in paths:
        path.write_text(path.name)
    record = tmp_path / "run" / "quarantine.tsv"
    for path in paths[:2]:
        add_to_record(record, tmp_path, {str(path): "is damaged:\n\tvery"})
    whole, both = record.read_bytes(), {str(path): "is damaged:\n\tvery" for path in paths[:2]}
    assert read_record(record, tmp_path) == both
    assert [path.name for path in record.parent.iterdir()] == [record.name]
    first_ends = whole.index(b"\n1.jpg")
    for size in range(len(whole)):
        record.write_bytes(whole[:size])
        found = read_record(record, tmp_path)
        assert found.items() <= both.items(), size
        if size >= first_ends:
            assert found[str(paths[0])] == both[str(paths[0])]
        if size % 9 == 0:
            add_to_record(record, tmp_path, {str(paths[2]): "is empty"})
            assert read_quarantine(record, tmp_path) == {**found, str(paths[2]): "is empty"}
    record.write_bytes(b"\0" * 100)
    assert read_record(record, tmp_path) == read_record(tmp_path / "absent", tmp_path) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "does not begin"), ("a.jpg\n", "does not begin"), ("file\treason\na.jpg\tx\nb.jpg\n", "line 3: 1 fields")],
    ids=["empty", "no header", "one field"],
)
def test_a_file_that_is_no_quarantine(tmp_path, content, message):
    (tmp_path / "q.tsv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_quarantine(tmp_path / "q.tsv", tmp_path)
