"""Word vectors of class names from both kinds of file, and every way in which such a file can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pumlc.data.word_vectors import read_word_vectors
from pumlc.errors import InputError

LINES = (
    ". . . 9 9 9",  # a token with spaces, as the large GloVe files have some
    "Person 7 7 7",
    "person 1 2 3",
    "PERSON 8 8 8",
    "traffic 1 0 0",
    "light 0 1 0.5",
    "Dog 4 5 6",
    "t-shirt 2 2 2",
    "hot 3 1 1",
    "unrelated this is never looked at",
)


@pytest.fixture
def glove(tmp_path: Path) -> Path:
    path = tmp_path / "glove.txt"
    path.write_text("\n".join(LINES) + "\n")
    return path


def test_names(glove):
    names = ("person", "Traffic light", "dog", "T-shirt", "hot_dog", "light/traffic")
    found = read_word_vectors(glove, names, size=3)
    expected = [[1, 2, 3], [0.5, 0.5, 0.25], [4, 5, 6], [2, 2, 2], [3.5, 3, 3.5], [0.5, 0.5, 0.25]]
    assert found.vectors.dtype == np.float32
    np.testing.assert_allclose(found.vectors, expected)
    assert (found.missing, found.partial) == ((), ())
    assert found.summary() == "words: vectors of 6 of 6 classes"


def test_classes_without_a_vector(glove):
    found = read_word_vectors(glove, ("person", "xyzzy", "light house", "hot-light", "plugh"), size=3)
    person, light, mixed = [1, 2, 3], [0, 1, 0.5], [1.5, 1, 0.75]
    mean = np.mean([person, light, mixed], 0)
    np.testing.assert_allclose(found.vectors, [person, mean, light, mixed, mean])
    assert (found.missing, found.partial) == (("xyzzy", "plugh"), ("light house",))
    assert found.summary() == (
        "words: vectors of 3 of 5 classes; NOT FOUND, so the mean of the others stands in: xyzzy, plugh; "
        "from only some of their words: light house"
    )


def test_reading_ends_where_everything_is_found(glove):
    with glove.open("a") as file:
        file.write("dog 1 2\n")
    assert read_word_vectors(glove, ("person", "light"), size=3).missing == ()  # never comes to the last line


def test_array(tmp_path):
    table = np.arange(6, dtype=np.float64).reshape(2, 3)
    np.save(tmp_path / "a.npy", table)
    found = read_word_vectors(tmp_path / "a.npy", ("one", "two"), size=3)
    assert found.vectors.dtype == np.float32
    assert np.array_equal(found.vectors, table)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3)), r"holds float64 \[2, 3\]; numbers \[3, 3\] were wanted"),
        (np.zeros((3, 4)), r"numbers \[3, 3\] were wanted"),
        (np.array([["a"] * 3] * 3), r"holds <U1 \[3, 3\]; numbers"),
        (np.array([[0, 0, 0], [0, np.nan, 0], [0, 0, 0]]), r"not finite in row 1 \(two\)"),
    ],
)
def test_bad_array(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=message):
        read_word_vectors(tmp_path / "a.npy", ("one", "two", "three"), size=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one 1 2\n", r"line 1: 'one' has 2 numbers; 3 were wanted"),
        ("none 1 2 3\none 1 x 3\n", r"line 2: the vector of 'one' has something other than numbers"),
        ("one 1 inf 3\n", r"'one' has 3 numbers, some not finite; 3 were wanted"),
        ("none 1 2 3\n", r"has a vector for none of the 1 classes \(one\)"),
        ("", "has a vector for none"),
    ],
)
def test_bad_text(tmp_path, text, message):
    path = tmp_path / "words.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_word_vectors(path, ("one",), size=3)


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"There is no file of word vectors .*none\.txt"):
        read_word_vectors(tmp_path / "none.txt", ("one",))
    (tmp_path / "bad.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match=r"bad\.npy cannot be read as an array of word vectors"):
        read_word_vectors(tmp_path / "bad.npy", ("one",))
