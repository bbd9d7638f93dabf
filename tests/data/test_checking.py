"""The check of a data set: what it finds, what it remembers, and that nothing a decoder does takes it down."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pumlc.data.__main__ import main
from pumlc.data.checking import Verdict, check_pictures, read_verdicts
from pumlc.data.quarantine import read_quarantine, write_quarantine
from pumlc.errors import InputError
from tests.data.grim import grim
from tests.data.odd_files import write_decodable, write_undecodable
from tests.data.photos import write_photos


@pytest.mark.parametrize("workers", [1, 3])
def test_a_worker_that_comes_to_grief_names_its_file(tmp_path, workers):
    names = ["a", "crash", "b", "leave", "hang", "c", "hog", "crash2", "d"]
    paths = [str(tmp_path / name) for name in names]
    for path in paths:
        Path(path).touch()
    found: dict[str, str] = {}
    check_pictures(
        [*paths, str(tmp_path / "absent")],
        workers=workers,
        max_megapixels=1,
        patience=1.0,
        examine=grim,
        found=lambda path, verdict: found.update({os.path.basename(path): verdict.reason}),
    )
    assert found == {
        **dict.fromkeys("abcd", ""),
        "crash": "makes its decoder crash (SIGSEGV)",
        "crash2": "makes its decoder crash (SIGSEGV)",
        "leave": "makes its decoder crash (exit status 3)",
        "hang": "takes longer than 1 seconds to decode",
        "hog": "was refused memory",
        "absent": "cannot be read: No such file or directory",
    }


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


def test_what_a_layout_names_is_checked(picture_table, tmp_path, capsys):
    out = tmp_path / "q.tsv"
    assert main(["check", str(picture_table), "--layout", "csv", "--out", str(out), "--workers", "1"]) == 0
    assert capsys.readouterr().out.startswith("42 pictures, 42 new or changed: 0 cannot be used")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/none"], "none does not exist; the folder with the pictures was wanted there"),
        (["{}"], "holds no picture"),
        (["{}", "--workers", "0"], "--workers is 0"),
        (["{}/p", "--out", "{}/absent/q.tsv"], "absent cannot be written. Name the file to be written: --out FILE"),
    ],
    ids=str,
)
def test_what_cannot_be_checked(tmp_path, capsys, arguments, message):
    (tmp_path / "p").mkdir()
    if arguments[0].endswith("p"):
        write_photos(tmp_path / "p", 1)
    assert main(["check", *(argument.format(tmp_path) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_a_quarantine_comes_back_as_written(tmp_path):
    root = tmp_path / "data"
    names = [str(root / "a\tb\n'\".jpg"), str(root / os.fsdecode(b"\xff.jpg")), str(tmp_path / "besides.jpg")]
    written = {name: f"is damaged: {number}\t\n" for number, name in enumerate(names)}
    write_quarantine(tmp_path / "q.tsv", root, written)
    assert read_quarantine(tmp_path / "q.tsv", root) == written
    moved = read_quarantine(tmp_path / "q.tsv", tmp_path / "other")
    assert list(moved)[1:] == [str(tmp_path / "other" / os.fsdecode(b"\xff.jpg")), names[2]]


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "does not begin"), ("a.jpg\n", "does not begin"), ("file\treason\na.jpg\tx\nb.jpg\n", "line 3: 1 fields")],
    ids=["empty", "no header", "one field"],
)
def test_a_file_that_is_no_quarantine(tmp_path, content, message):
    (tmp_path / "q.tsv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_quarantine(tmp_path / "q.tsv", tmp_path)
