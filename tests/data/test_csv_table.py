"""Tables of one's own: what the values mean, what may stand beside them, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from pumlc.data import load_csv, load_splits
from pumlc.errors import InputError


@pytest.fixture
def table(tmp_path):
    """A function that writes labels.csv, and the images a.jpg ... d.jpg beside it; returns the folder."""
    for name in "abcd":
        (tmp_path / f"{name}.jpg").touch()

    def write(text: str, encoding: str = "utf-8"):
        (tmp_path / "labels.csv").write_text(text, encoding=encoding, newline="")
        return tmp_path

    return write


def test_zero_is_negative_in_a_plain_table_and_empty_is_unknown(table):
    dataset = load_csv(table("image,split,cat,dog\na.jpg,train,1,0\nb.jpg,train,,1\n"), "train")
    assert dataset.class_names == ("cat", "dog")
    assert dataset.labels.dtype == np.int8
    assert dataset.labels.tolist() == [[1, -1], [0, 1]]
    assert "0 was read as negative" in dataset.notes[0]


def test_zero_is_unknown_where_any_row_of_the_file_has_a_minus_one(table):
    root = table("image,split,cat,dog\na.jpg,train,1,0\nb.jpg,test,-1,\n")
    dataset = load_csv(root, "train")
    assert dataset.labels.tolist() == [[1, 0]]
    assert load_csv(root, "test").labels.tolist() == [[-1, 0]]
    assert "0 was read as unknown" in dataset.notes[0]


def test_positives_and_gaps_alone(table):
    assert load_csv(table("image,split,cat\na.jpg,train,1\nb.jpg,train,\n"), "train").labels.tolist() == [[1], [0]]


def test_whole_numbers_written_as_floats(table):
    root = table("image,split,cat\na.jpg,train,1.0\nb.jpg,train,0.0\nc.jpg,train,\n")
    assert load_csv(root, "train").labels.tolist() == [[1], [-1], [0]]


def test_column_order_spaces_byte_order_mark_and_windows_line_ends(table):
    root = table("cat, split ,image,dog\r\n 1 ,train, a.jpg ,0\r\n", encoding="utf-8-sig")
    dataset = load_csv(root, "train")
    assert dataset.class_names == ("cat", "dog")
    assert dataset.labels.tolist() == [[1, -1]]
    assert dataset.paths == (str(root / "a.jpg"),)


def test_quotes_commas_and_line_ends_in_other_columns(table):
    root = table('image,split,caption,cat\na.jpg,train,"two cats,\n""asleep""\n",1\n\nb.jpg,test,"a, b",0\n')
    splits = load_splits("csv", root)
    assert splits.train.class_names == ("cat",)
    assert splits.train.labels.tolist() == [[1]]
    assert splits.test.labels.tolist() == [[-1]]
    assert splits.val is None
    assert "caption" in splits.train.notes[1]


def test_a_column_marked_as_a_note_may_hold_numbers(table):
    assert load_csv(table("image,split,#width,cat\na.jpg,train,640,1\n"), "train").class_names == ("cat",)


def test_the_root_may_be_the_file(table):
    assert len(load_csv(table("image,split,cat\na.jpg,train,1\n") / "labels.csv", "train")) == 1


@pytest.mark.parametrize("value", ["2", "yes", "-2", "0.5", "-", "X"])
def test_a_wrong_value_names_line_column_and_value(table, value):
    root = table(f'image,split,caption,cat,dog\na.jpg,train,"one\n\nfour",1,0\nb.jpg,train,five,0,{value}\n')
    with pytest.raises(InputError, match=rf"labels\.csv, line 5, column dog: '{value}' is not 1, 0, -1 or empty"):
        load_csv(root, "train")


def test_a_class_whose_every_value_is_a_mistaken_label_is_not_taken_for_a_note(table):
    with pytest.raises(InputError, match="line 2, column dog: 'yes'"):
        load_csv(table("image,split,cat,dog\na.jpg,train,1,yes\nb.jpg,train,0,no\n"), "train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,cat\na.jpg,1\n", "no column 'split'"),
        ("file,split,cat\na.jpg,train,1\n", "no column 'image'"),
        ("", "no column 'image'"),
        ("image,split\na.jpg,train\n", "no class columns"),
        ("image,split,caption\na.jpg,train,hello\n", "no class columns"),
        ("image,split,cat\n", "no rows"),
        ("image,split,cat,cat\na.jpg,train,1,1\n", "'cat' is empty or stands there twice"),
        ("image,split,cat\na.jpg,train,1\n./a.jpg,test,0\n", r"line 3: image ./a.jpg stands in line 2 already"),
        ("image,split,cat\na.jpg,train,1,0\n", "line 2: 4 fields; the header has 3"),
        ("image,split,cat\na.jpg,valid,1\n", "line 2, column split: 'valid'"),
        ("image,split,cat\n,train,1\n", "line 2, column image: empty"),
        ('image,split,cat\na.jpg,train,"1\n', "not a CSV file"),
        ("image,split,cat\na.jpg,train,1\nmissing.jpg,test,1\n", r"not there: .*missing\.jpg\."),
        ("image,split,cat\na.jpg,test,1\n", "no row with split 'train'; it has test"),
    ],
)
def test_refused(table, text, message):
    with pytest.raises(InputError, match=message):
        load_csv(table(text), "train")


def test_a_table_that_is_not_there_or_not_text(table, tmp_path):
    with pytest.raises(InputError, match=r"labels\.csv does not exist"):
        load_csv(tmp_path, "train")
    with pytest.raises(InputError, match=r"labels\.csv, line 1: the byte 0xe9 is not of a text in UTF-8"):
        load_csv(table("image,split,caf\u00e9\na.jpg,train,1\n", encoding="latin-1"), "train")


def test_training_rows_are_needed(table):
    with pytest.raises(InputError, match="no row with split 'train'"):
        load_splits("csv", table("image,split,cat\na.jpg,test,1\n"))
