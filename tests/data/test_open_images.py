"""Open Images: classes with a positive, images that are there, the names of each version, what is refused."""

from __future__ import annotations

import pytest

from pumlc.data import load_splits, read_open_images
from pumlc.errors import InputError

DESCRIPTIONS = '/m/cat,Cat\n/m/0bow,Bow\n/m/dog,Dog\n/m/9bow,Bow\n/m/pan,"Pan, for frying"\n'
HEADER = "ImageID,Source,LabelName,Confidence\n"
TABLES = {
    "train": (
        "00b,verification,/m/dog,1\n"
        "00b,verification,/m/cat,0\n"
        "00gone,verification,/m/0bow,1\n"
        "00a,crowdsource-verification,/m/pan,1\n"
        "00b,crowdsource-verification,/m/9bow,1.0\n"
        "00a,crowdsource-verification,/m/dog,1\n"
        "00a,verification,/m/dog,0\n"
    ),
    "validation": "0a0,verification,/m/cat,1\n0a0,verification,/m/pan,0\n0a1,verification,/m/cat,0\n",
}


@pytest.fixture
def open_images(tmp_path):
    """Two images to train on, one more without labels, one that the table names and that is not there; V4 names."""
    (tmp_path / "class-descriptions.csv").write_text(DESCRIPTIONS)
    for split, images in (("train", ("00a", "00b", "00c")), ("validation", ("0a0", "0a1"))):
        (tmp_path / split).mkdir()
        for image in images:
            (tmp_path / split / f"{image}.jpg").touch()
        (tmp_path / f"{split}-annotations-human-imagelabels.csv").write_text(HEADER + TABLES[split])
    return tmp_path


def names(dataset):
    return [path.rsplit("/", 1)[1] for path in dataset.paths]


def test_rows_columns_and_values(open_images):
    found = read_open_images(open_images)
    assert list(found) == ["train", "val"]
    train = found["train"]
    assert (train.name, train.split) == ("openimages", "train")
    assert names(train) == ["00b.jpg", "00a.jpg"]
    assert train.class_names == (
        "Dog",
        "Bow (/m/9bow)",
        "Pan, for frying",
    )  # no positive cat, no bow of /m/0bow is there
    assert train.labels.tolist() == [[1, 1, 0], [1, 0, 1]]  # two people disagree on the dog of 00a
    assert train.notes == (
        "Of train-annotations-human-imagelabels.csv, 6 of 7 labels are of images in train/, "
        "where 2 of 3 files have labels.",
    )
    assert names(found["val"]) == ["0a0.jpg", "0a1.jpg"]
    assert found["val"].labels.tolist() == [[0, 0, -1], [0, 0, 0]]  # nothing is known of the classes of train in 0a1


def test_a_negative_is_read_wherever_the_line_is(open_images):
    (open_images / "train-annotations-human-imagelabels.csv").write_text(
        f"{HEADER}00a,verification,/m/cat,0\n00b,verification,/m/cat,1\n00b,verification,/m/dog,1\n00a,x,/m/dog,0.0\n"
    )
    assert read_open_images(open_images)["train"].labels.tolist() == [[-1, -1], [1, 1]]


def test_splits_without_images_are_none(open_images):
    for image in ("0a0", "0a1"):
        (open_images / f"validation/{image}.jpg").unlink()
    (open_images / "test-annotations-human-imagelabels.csv").write_text(HEADER)
    splits = load_splits("openimages", open_images)
    assert (len(splits.train), splits.val, splits.test) == (2, None, None)
    assert [note.split(":")[0] for note in splits.train.notes[1:]] == [
        "There is no val split",
        "There is no test split",
    ]
    assert splits.train.notes[2].endswith("/test has none of the images of test-annotations-human-imagelabels.csv.")


@pytest.mark.parametrize("version", ["oidv6-{}-annotations-human-imagelabels.csv", "2017_11/{}/annotations-human.csv"])
def test_names_of_other_versions(open_images, version):
    expected = read_open_images(open_images)
    for split, folder in (("train", "train"), ("validation", "val")):
        target = open_images / version.format(split)
        target.parent.mkdir(parents=True, exist_ok=True)
        (open_images / f"{split}-annotations-human-imagelabels.csv").rename(target)
        if version.startswith("2017"):
            (open_images / split).rename(open_images / f"images_{folder}")
    descriptions = "2017_11/class-descriptions.csv" if version.startswith("2017") else "oidv6-class-descriptions.csv"
    (open_images / "class-descriptions.csv").rename(open_images / descriptions)
    if version.startswith("oidv6"):
        (open_images / descriptions).write_text(f"LabelName,DisplayName\n{DESCRIPTIONS}")
    found = read_open_images(open_images)
    for split in ("train", "val"):
        assert found[split].class_names == expected[split].class_names
        assert found[split].labels.tolist() == expected[split].labels.tolist()


def test_refused(open_images, tmp_path):
    table = open_images / "train-annotations-human-imagelabels.csv"

    def refused(message, text=None, root=open_images):
        if text is not None:
            table.write_text(text)
        with pytest.raises(InputError, match=message):
            read_open_images(root)

    refused(r"csv, line 3: the label '/m/elk' is not in .*class-descriptions\.csv", f"{HEADER}\n00a,x,/m/elk,1\n")
    refused(r"csv, line 2: the confidence is '0\.7'; 1 or 0", f"{HEADER}00a,x,/m/cat,0.7\n")
    refused(r"csv, line 2: 3 fields; 4 were wanted", f"{HEADER}00a,x,/m/cat\n")
    refused(r"csv, line 1: '00a,x,/m/cat,1'; 'ImageID,Source,LabelName,Confidence' was wanted", "00a,x,/m/cat,1\n")
    refused(r"has no positive label of the 1 images", f"{HEADER}00a,x,/m/cat,0\n")
    refused(r"train has none of the images that .*train-annotations", f"{HEADER}00z,x,/m/cat,0\n")
    table.unlink()
    refused(r"train-annotations-human-imagelabels\.csv does not exist")
    (open_images / "train").rename(open_images / "pictures")
    refused(r"train does not exist; the folder of the images was wanted there")
    (open_images / "class-descriptions.csv").write_text(f"{DESCRIPTIONS}/m/cat,Cat\n")
    refused(r"csv, line \d: the label '/m/cat' is described in a line before already")
    (open_images / "class-descriptions.csv").write_text("")
    refused("describes no classes")
    (open_images / "class-descriptions.csv").unlink()
    refused(r"class-descriptions\.csv does not exist")
    refused("nowhere does not exist", root=tmp_path / "nowhere")
