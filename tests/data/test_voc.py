"""VOC annotations: order, difficult objects, where the folder may be, and what is refused."""

from __future__ import annotations

import pytest

from pumlc.data import load_splits, load_voc
from pumlc.errors import InputError

OBJECTS = {
    "000012": [("car", "0"), ("person", "1")],
    "000005": [("chair", "1"), ("chair", "0")],
    "000007": [],
}


def annotation(objects):
    parts = [f"<object><name>{name}</name><difficult>{hard}</difficult></object>" for name, hard in objects]
    return f"<annotation><folder>VOC2007</folder>{''.join(parts)}</annotation>"


@pytest.fixture
def voc(tmp_path):
    """A VOC2007 folder whose trainval set is the three images of OBJECTS."""
    folder = tmp_path / "VOC2007"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for name, objects in OBJECTS.items():
        (folder / "JPEGImages" / f"{name}.jpg").touch()
        (folder / "Annotations" / f"{name}.xml").write_text(annotation(objects))
    (folder / "ImageSets/Main/trainval.txt").write_text("\n".join(OBJECTS) + "\n")
    return folder


def positives(dataset, row, value=1):
    return {dataset.class_names[column] for column in (dataset.labels[row] == value).nonzero()[0]}


def test_rows_columns_and_values(voc):
    dataset = load_voc(voc, "train")
    assert dataset.name == "voc07"
    assert [path.rsplit("/", 1)[1] for path in dataset.paths] == ["000012.jpg", "000005.jpg", "000007.jpg"]
    assert dataset.class_names == tuple(sorted(dataset.class_names))
    assert dataset.labels.shape == (3, 20)
    assert [positives(dataset, row) for row in range(3)] == [{"car"}, {"chair"}, set()]
    assert (dataset.labels[2] == -1).all()


def test_a_class_with_difficult_objects_alone_is_unknown_or_negative(voc):
    assert positives(load_voc(voc, "train"), 0, value=0) == {"person"}
    assert positives(load_voc(voc, "train", difficult="negative"), 0, value=0) == set()


def test_the_root_may_be_above_the_folder(voc, tmp_path):
    assert len(load_voc(tmp_path, "train")) == 3
    (tmp_path / "VOCdevkit").mkdir()
    voc.rename(tmp_path / "VOCdevkit" / "VOC2007")
    assert len(load_voc(tmp_path, "train")) == 3


def test_splits(voc):
    assert load_splits("voc", voc).test is None
    (voc / "ImageSets/Main/test.txt").write_text("000007\n")
    assert len(load_splits("voc", voc).test) == 1


def test_classes_of_ones_own(voc):
    (voc / "classes.txt").write_text("person\nunicorn\ncar\nchair\n")
    dataset = load_voc(voc, "train")
    assert dataset.class_names == ("person", "unicorn", "car", "chair")
    assert dataset.labels[0].tolist() == [0, -1, 1, -1]


def test_refused(voc, tmp_path):
    def refused(message, root=voc, **options):
        with pytest.raises(InputError, match=message):
            load_voc(root, options.pop("split", "train"), **options)

    image_set = voc / "ImageSets/Main/trainval.txt"
    refused("no split 'val'", split="val")
    refused("difficult is 'positive'", difficult="positive")
    refused("nowhere does not exist", root=tmp_path / "nowhere")
    refused("is not a VOC folder", root=voc / "JPEGImages")
    refused(r"test\.txt does not exist", split="test")
    (voc / "Annotations/000007.xml").write_text(annotation([("unicorn", "0")]))
    refused(r"000007\.xml: object 1 is 'unicorn', which is not one of the 20 classes")
    (voc / "Annotations/000007.xml").write_text(annotation([(" ", "0")]))
    refused(r"000007\.xml: object 1 has no name")
    (voc / "Annotations/000007.xml").write_text("<annotation><object>")
    refused(r"000007\.xml cannot be read")
    (voc / "Annotations/000007.xml").unlink()
    refused(r"000007\.xml does not exist")
    (voc / "JPEGImages/000007.jpg").unlink()
    refused(r"not there: .*000007\.jpg\.")
    image_set.write_text("000005\n000005\n")
    refused(r"txt, line \d: the image '\d+' stands in line \d already")
    image_set.write_text("\n")
    refused("lists no images")


def test_the_sets_of_2012(voc, tmp_path):
    """Its val set is in place of the test set, which has no public annotations."""
    folder = voc.rename(tmp_path / "VOC2012")
    (folder / "ImageSets/Main/train.txt").write_text("000012\n000007\n")
    splits = load_splits("voc12", tmp_path)
    assert (splits.train.name, len(splits.train), splits.test) == ("voc12", 2, None)
    (folder / "ImageSets/Main/val.txt").write_text("000005\n")
    splits = load_splits("voc12", folder)
    assert positives(splits.test, 0) == {"chair"}
    assert splits.val is None
    with pytest.raises(InputError, match=r"The year of VOC is '2010'; 2007 or 2012 was wanted"):
        load_voc(folder, "train", year="2010")
