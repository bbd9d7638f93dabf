"""CUB attributes: numbered lists, lines with too many columns, where attributes.txt lies, and what is refused."""

from __future__ import annotations

import pytest

from pumlc.data import load_splits, read_cub
from pumlc.errors import InputError

IMAGES = {1: "001.Black_footed_Albatross/b.jpg", 2: "001.Black_footed_Albatross/a.jpg", 4: "002.Laysan/c.jpg"}
LABELS = """\
1 1 0 3 27.7080
1 2 1 1 27.7080
2 1 1 4 1.5
2 2 0 4 1.5
4 2 1 1 0 1.509
4 1 0 1 0 1.509
"""  # the last two with the column too many that some lines of the published file have


@pytest.fixture
def cub(tmp_path):
    """Three images with two attributes, as the archive unpacks."""
    folder = tmp_path / "CUB_200_2011"
    (folder / "attributes").mkdir(parents=True)
    for image in IMAGES.values():
        (folder / "images" / image).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / image).touch()
    (folder / "images.txt").write_text("".join(f"{number} {name}\n" for number, name in IMAGES.items()))
    (folder / "train_test_split.txt").write_text("1 1\n2 0\n4 1\n")
    (folder / "attributes/image_attribute_labels.txt").write_text(LABELS)
    (tmp_path / "attributes.txt").write_text("1 has_bill_shape::curved_(up_or_down)\n2 has_wing_color::blue\n")
    return folder


def test_rows_columns_and_values(cub):
    found = read_cub(cub)
    assert list(found) == ["train", "test"]
    train = found["train"]
    assert (train.name, train.split) == ("cub", "train")
    assert [path.split("/")[-3:] for path in train.paths] == [["images", *IMAGES[n].split("/")] for n in (1, 4)]
    assert train.class_names == ("has_bill_shape::curved_(up_or_down)", "has_wing_color::blue")
    assert train.labels.tolist() == [[-1, 1], [-1, 1]]
    assert found["test"].labels.tolist() == [[1, -1]]
    assert "negative, also where a bird does not show that part" in train.notes[0]


def test_where_the_parts_may_be(cub, tmp_path):
    (tmp_path / "attributes.txt").rename(cub / "attributes/attributes.txt")
    splits = load_splits("cub", tmp_path)
    assert (len(splits.train), splits.val, len(splits.test)) == (2, None, 1)
    assert splits.train.labels.tolist() == read_cub(cub)["train"].labels.tolist()
    outer = tmp_path / "downloads" / "CUB_200_2011"
    outer.mkdir(parents=True)
    cub.rename(outer / "CUB_200_2011")
    assert len(read_cub(tmp_path / "downloads")["train"]) == 2


def test_refused(cub, tmp_path):
    labels = cub / "attributes/image_attribute_labels.txt"

    def refused(message, root=cub):
        with pytest.raises(InputError, match=message):
            read_cub(root)

    def refused_labels(message, old, new):
        assert old in LABELS
        labels.write_text(LABELS.replace(old, new))
        refused(message)

    refused_labels(r"labels\.txt, line 3: there is no image 3", "2 1 1 4", "3 1 1 4")
    refused_labels(r"labels\.txt, line 2: there is no attribute 313", "1 2 1", "1 313 1")
    refused_labels(r"labels\.txt, line 5: is_present is 2; 1 or 0", "4 2 1", "4 2 2")
    refused_labels(
        r"has 0 lines for image 2 and attribute 1; one was wanted for each of the 3 images", "2 1 1 4 1.5\n", ""
    )
    refused_labels(r"has 2 lines for image 2 and attribute 1", "2 2 0", "2 1 0")
    refused_labels(r"labels\.txt, line 6: the file has 2 lines for image 2 and attribute 1", "2 2 0", "\n\n2 1 0")
    refused_labels(r"labels\.txt, line 2: '1 abc 1.*'; at least 3 numbers were wanted", "1 2 1", "1 abc 1")
    refused_labels(r"labels\.txt, line 4: '1 99999999999 1.*'", "1 2 1", "\n\n1 99999999999 1")
    refused_labels(r"labels\.txt, line 5: there is no image 3", "2 1 1 4", " \n\n3 1 1 4")
    refused_labels(r"labels\.txt, line 7: is_present is 2; 1 or 0", "4 2 1", "\n\n4 2 2")
    labels.write_bytes(LABELS.encode().replace(b"2 1 1", b"2\xff1 1"))
    refused(r"labels\.txt, line 2: the byte 0xff is not of a text in UTF-8")
    labels.unlink()
    refused(r"image_attribute_labels\.txt does not exist")
    (cub / "images" / IMAGES[4]).unlink()
    refused(r"images\.txt, line 3, names an image file that is not there: .*002\.Laysan/c\.jpg\.")
    (cub / "train_test_split.txt").write_text("1 1\n2 0\n")
    refused(r"train_test_split\.txt has nothing for image 4, 002\.Laysan/c\.jpg; a 1 \(train\) or 0 \(test\)")
    (cub / "train_test_split.txt").write_text("1 1\n2 0\n2 1\n")
    refused(r"train_test_split\.txt, line 3: the number 2 stands in line 2 already")
    (tmp_path / "attributes.txt").write_text("has_wing_color::blue\n")
    refused(r"attributes\.txt, line 1: 'has_wing_color::blue'; a number and a text")
    (tmp_path / "attributes.txt").unlink()
    refused(r"attributes/attributes\.txt does not exist")
    (cub / "images.txt").write_text("")
    refused(r"images\.txt is empty")
    refused("is not a CUB folder", root=cub / "images")
    refused("nowhere does not exist", root=tmp_path / "nowhere")
