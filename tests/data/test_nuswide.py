"""NUS-WIDE: lists with Windows paths, a file per concept, images that are gone, the arrays of SPML, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from pumlc.data import load_nuswide, load_splits
from pumlc.errors import InputError

TRAIN = ["actor\\0001_2124494179.jpg", "zoo\\0002_9.jpg", "actor\\0003_7.jpg"]
LABELS = {"airport": "101", "sky": "011"}  # a digit for each image of TRAIN


def write_labels(root, labels, split):
    for name, digits in labels.items():
        path = root / f"Groundtruth/TrainTestLabels/Labels_{name}_{split}.txt"
        path.write_bytes("".join(f"{digit}\r\n" for digit in digits).encode())


@pytest.fixture
def nuswide(tmp_path):
    """Three images to train on and two concepts, in the layout of the archives; line ends as they come."""
    for folder in ("Flickr/actor", "Flickr/zoo", "ImageList", "ConceptsList", "Groundtruth/TrainTestLabels"):
        (tmp_path / folder).mkdir(parents=True)
    for image in TRAIN:
        (tmp_path / "Flickr" / image.replace("\\", "/")).touch()
    (tmp_path / "ImageList/TrainImagelist.txt").write_bytes("\r\n".join([*TRAIN, ""]).encode())
    (tmp_path / "ConceptsList/Concepts81.txt").write_text("".join(f"{name}\n" for name in LABELS))
    write_labels(tmp_path, LABELS, "Train")
    return tmp_path


def write_arrays(root, split, images, labels):
    np.save(root / f"formatted_{split}_images.npy", np.array(images))
    np.save(root / f"formatted_{split}_labels.npy", np.array(labels))


def names(dataset):
    return [path.split("/")[-2:] for path in dataset.paths]


def test_rows_columns_and_values(nuswide):
    dataset = load_nuswide(nuswide, "train")
    assert (dataset.name, dataset.split, dataset.notes) == ("nuswide", "train", ())
    assert names(dataset) == [["actor", "0001_2124494179.jpg"], ["zoo", "0002_9.jpg"], ["actor", "0003_7.jpg"]]
    assert dataset.class_names == ("airport", "sky")
    assert dataset.labels.tolist() == [[1, -1], [-1, 1], [1, 1]]


def test_images_that_are_gone_are_left_out_and_counted(nuswide):
    (nuswide / "Flickr/zoo/0002_9.jpg").unlink()
    dataset = load_nuswide(nuswide, "train")
    assert dataset.labels.tolist() == [[1, -1], [1, 1]]
    assert names(dataset)[1] == ["actor", "0003_7.jpg"]
    assert dataset.notes == ("Left out: 1 of the 3 images of TrainImagelist.txt, whose files are not there.",)


def test_all_images_in_one_folder(nuswide):
    for image in TRAIN:
        path = nuswide / "Flickr" / image.replace("\\", "/")
        path.rename(nuswide / "Flickr" / path.name)
    (nuswide / "Flickr").rename(nuswide / "images")
    (nuswide / "ConceptsList/Concepts81.txt").rename(nuswide / "Concepts81.txt")
    assert names(load_nuswide(nuswide, "train"))[1] == ["images", "0002_9.jpg"]


def test_splits(nuswide):
    assert load_splits("nuswide", nuswide).test is None
    (nuswide / "ImageList/TestImagelist.txt").write_text("zoo\\0002_9.jpg\n")
    write_labels(nuswide, {"airport": "0", "sky": "1"}, "Test")
    splits = load_splits("nuswide", nuswide)
    assert splits.val is None
    assert splits.test.labels.tolist() == [[-1, 1]]


def test_the_arrays_of_spml_go_first(nuswide):
    write_arrays(nuswide, "train", ["zoo/0002_9.jpg", "actor/gone.jpg", "actor/0003_7.jpg"], np.eye(3, 2))
    write_arrays(nuswide, "val", ["actor/0001_2124494179.jpg"], [[0, 1]])
    splits = load_splits("nuswide", nuswide)
    assert names(splits.train) == [["zoo", "0002_9.jpg"], ["actor", "0003_7.jpg"]]
    assert splits.train.labels.tolist() == [[1, -1], [-1, -1]]
    assert splits.train.class_names == ("airport", "sky")
    assert splits.train.notes == (
        "Left out: 1 of the 3 images of formatted_train_images.npy, whose files are not there.",
    )
    assert splits.test.labels.tolist() == [[-1, 1]]
    (nuswide / "ConceptsList/Concepts81.txt").unlink()
    assert load_nuswide(nuswide, "test").class_names == ("class 0", "class 1")
    (nuswide / "classes.txt").write_text("bear\nbirds\n")
    assert load_nuswide(nuswide, "test").class_names == ("bear", "birds")


def test_refused(nuswide, tmp_path):
    def refused(message, root=nuswide, split="train"):
        with pytest.raises(InputError, match=message):
            load_nuswide(root, split)

    refused("no split 'val'", split="val")
    refused("nowhere does not exist", root=tmp_path / "nowhere")
    refused(r"TestImagelist\.txt does not exist", split="test")
    sky = nuswide / "Groundtruth/TrainTestLabels/Labels_sky_Train.txt"
    sky.write_text("0\n1\n")
    refused(r"Labels_sky_Train\.txt has 2 labels; TrainImagelist\.txt lists 3 images")
    sky.write_text("0\n-1\n1\n")
    refused(r"Labels_sky_Train\.txt, line 2: '-1'; a 1 or 0 was wanted")
    sky.unlink()
    refused(r"Labels_sky_Train\.txt does not exist")
    write_labels(nuswide, LABELS, "Train")
    for image in TRAIN:
        (nuswide / "Flickr" / image.replace("\\", "/")).unlink()
    refused(r"None of the 3 images of .*TrainImagelist\.txt is in .*Flickr; actor.0001_2124494179\.jpg was the first")
    (nuswide / "Flickr").rename(nuswide / "Pictures")
    refused("has no images: wanted them in Flickr/ or images/")
    (nuswide / "ConceptsList/Concepts81.txt").unlink()
    refused(r"ConceptsList/Concepts81\.txt does not exist")


def test_refused_arrays(nuswide):
    def refused(message, images, labels):
        write_arrays(nuswide, "train", images, labels)
        with pytest.raises(InputError, match=message):
            load_nuswide(nuswide, "train")

    refused(r"_labels\.npy holds int64 \[2, 2\]; numbers \[1, classes\] were wanted", ["a.jpg"], [[1, 0], [0, 1]])
    refused(r"_labels\.npy holds values other than 0 and 1: \[-1, 1\]", ["a.jpg"], [[1, -1]])
    refused(r"_images\.npy holds int64 \[2\]; a list of paths", [1, 2], [[1, 0], [0, 1]])
    (nuswide / "formatted_train_labels.npy").unlink()
    with pytest.raises(InputError, match=r"formatted_train_labels\.npy does not exist"):
        load_nuswide(nuswide, "train")
    (nuswide / "formatted_train_images.npy").write_bytes(b"zip")
    with pytest.raises(InputError, match=r"formatted_train_images\.npy cannot be read"):
        load_nuswide(nuswide, "train")
