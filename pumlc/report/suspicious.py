"""Labels that the model contradicts with confidence, for a person to check."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pumlc.engine.whole_files import write_atomically
from pumlc.report.markup import Markup, command, element, isolated, join
from pumlc.report.predictions import Predictions
from pumlc.report.record import Record
from pumlc.report.thumbnails import SMALL, file_name, show, thumbnail

FILE = "suspicious.tsv"
SHOWN = 12  # of each kind
WORDS = {1: "positive", 0: "unknown", -1: "negative"}
_HEADER = ("file", "class", "given", "probability", "annotated")
_KINDS = (  # what training was told; heading
    (-1, "Given as negative, and confidently seen"),
    (1, "Given as positive, and confidently not seen"),
    (0, "Unknown, and confidently seen"),
)


class Suspicion(NamedTuple):
    """An entry of the label matrix that the model contradicts."""

    path: str
    class_name: str
    given: int  # what training was told: 1 positive, 0 unknown, -1 negative
    probability: float
    annotated: int  # what the annotation says where training was not told


def suspicions(predictions: Predictions) -> list[Suspicion]:
    """The confident disagreements, by what was given and then the most confident first.

    As in confident learning (Northcutt et al., arXiv 1911.00068), each class has its own measure of confidence: it is
    confidently there where its probability is at least the mean of the pictures that are given as positive, and one
    half; confidently not there where it is at most the mean of the others, and one half. Classes without a given
    positive have no measure, and nothing is said of them.
    """
    given, probability = predictions.observed, predictions.probabilities
    present = _mean_where(probability, given == 1).clamp(min=0.5)
    absent = _mean_where(probability, given != 1).clamp(max=0.5)
    contradicted = torch.where(given == 1, probability <= absent, probability >= present)
    contradicted &= (given == 1).any(0)
    found = []
    for row, c in contradicted.nonzero().tolist():
        found.append(
            Suspicion(
                predictions.paths[row],
                predictions.class_names[c],
                int(given[row, c]),
                float(probability[row, c]),
                int(predictions.labels[row, c]),
            )
        )
    order = [kind for kind, _ in _KINDS]
    return sorted(found, key=lambda each: (order.index(each.given), each.probability * (1 if each.given == 1 else -1)))


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Of each column of [N, C] the mean of what is chosen, NaN where nothing is: [C]."""
    return torch.where(chosen, values, 0).sum(0) / chosen.sum(0)


def write_suspicions(folder: Path, found: Sequence[Suspicion]) -> Path:
    """All of them as a table, ``suspicious.tsv``; raises InputError."""
    file = io.StringIO()
    writer = csv.writer(file, dialect="excel-tab", lineterminator="\n")
    writer.writerow(_HEADER)
    writer.writerows(
        (each.path, each.class_name, WORDS[each.given], f"{each.probability:.4f}", WORDS[each.annotated])
        for each in found
    )
    content = file.getvalue().encode("utf-8", "surrogateescape")
    path = folder / FILE
    write_atomically(path, lambda target: target.write(content))
    return path


def suspicious(record: Record, predictions: Predictions, found: Sequence[Suspicion]) -> Markup:
    """A table for each kind, of the most confident ones."""
    counts = Counter(each.given for each in found)
    parts = [
        _table(record, heading, [each for each in found if each.given == kind], counts[kind])
        for kind, heading in _KINDS
        if counts[kind] or (predictions.observed == kind).any()
    ]
    return element("div", _introduction(record, predictions, len(found)), element("div", parts, class_="triple"))


def _introduction(record: Record, predictions: Predictions, count: int) -> Markup:
    about = (
        f"{count:,} labels of {predictions.split} are contradicted by the model with confidence, measured class by "
        "class: as likely as the pictures that have the label are on average, or as unlikely as those that do not. "
        f"Some are mistakes of the model. All of them stand in {FILE}, beside this page."
    )
    if predictions.split == "train":
        more = " The model was trained on these labels and may have learned wrong ones by heart: not all are found."
        return element("p", about, more, class_="quiet")
    evaluate = command("python", "-m", "pumlc.evaluate", record.folder, "--splits", "train")
    hint = join(" For the labels that the model was trained on, run first: ", evaluate)
    return element("p", about, hint, class_="quiet")


def _table(record: Record, heading: str, found: Sequence[Suspicion], count: int) -> Markup:
    title = element("h3", heading, " ", element("span", f"{count:,}", class_="count"))
    if not found:
        return element("section", title, element("p", "None.", class_="quiet"))
    entries = [_entry(record, each) for each in found[:SHOWN]]
    annotated = Counter(each.annotated for each in found)
    checked = None
    if found[0].given == 0 and annotated[1] + annotated[-1]:
        checked = element(
            "p",
            f"The whole annotation, which training did not see, knows {annotated[1] + annotated[-1]:,} of them: "
            f"{annotated[1]:,} are positive, {annotated[-1]:,} negative.",
            class_="quiet",
        )
    header = element("tr", [element("th", text, scope="col") for text in ("picture", "class and file", "probability")])
    table = element("table", element("thead", header), element("tbody", entries), class_="suspicions")
    return element("section", title, checked, table)


def _entry(record: Record, each: Suspicion) -> Markup:
    picture = thumbnail(each.path, SMALL, record.config.max_megapixels)
    known = None
    if each.annotated != each.given:
        known = element("p", f"annotated as {WORDS[each.annotated]}", class_="quiet")
    return element(
        "tr",
        element("td", show(picture, f"Picture that may be mislabelled as to {each.class_name}")),
        element("td", element("b", isolated(each.class_name)), element("p", file_name(each.path)), known),
        element("td", f"{each.probability:.3f}", class_="figure"),
    )
