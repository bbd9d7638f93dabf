"""Held-out pictures with what is in them, what training would see of that, and what the model says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from pumlc.engine.recogniser import Recogniser
from pumlc.errors import InputError
from pumlc.report.heat import class_maps, overlay
from pumlc.report.markup import Markup, element, isolated
from pumlc.report.predictions import Predictions
from pumlc.report.record import Record
from pumlc.report.thumbnails import LARGE, data_uri, file_name, show, thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN_CLASSES = 4  # of a picture
MAP_SIDE = 144  # pixels
TRUTHS = {1: "yes", 0: "?", -1: "no"}


class Choice(NamedTuple):
    row: int
    why: str


def choose(predictions: Predictions, count: int, seed: int) -> list[Choice]:
    """A third each of the highest losses, of the lowest, and of the rest at random."""
    losses = predictions.losses.numpy()
    order = [int(row) for row in np.argsort(losses, kind="stable") if np.isfinite(losses[row])]
    each = min(count, len(order)) // 3
    worst, best, rest = order[len(order) - each :][::-1], order[:each], order[each : len(order) - each]
    drawn = np.random.RandomState(seed).permutation(len(rest))[: max(0, min(count, len(order)) - 2 * each)]
    return [
        *(Choice(row, "highest loss") for row in worst),
        *(Choice(rest[i], "at random") for i in drawn),
        *(Choice(row, "lowest loss") for row in best),
    ]


def shown_classes(predictions: Predictions, row: int) -> list[int]:
    """The classes that are in the picture or said to be: mistakes first, then the surest; at least the likeliest."""
    probability, truth = predictions.probabilities[row], predictions.labels[row]
    said = probability >= predictions.thresholds
    relevant = said | (truth == 1) | (predictions.observed[row] == 1)
    wrong = (said & (truth == -1)) | (~said & (truth == 1))
    order = sorted(torch.nonzero(relevant).flatten().tolist(), key=lambda c: (not wrong[c], -float(probability[c])))
    return order or [int(probability.argmax())]


def gallery(
    record: Record, predictions: Predictions, recogniser: Recogniser | None, count: int, device: torch.device
) -> Markup:
    """Cards of ``count`` pictures; with the maps of the model where there is one and it has them."""
    chosen = choose(predictions, count, record.config.seed)
    megapixels = record.config.max_megapixels
    pictures = [thumbnail(predictions.paths[choice.row], LARGE, megapixels) for choice in chosen]
    readable = [i for i, picture in enumerate(pictures) if not isinstance(picture, str)]
    maps: dict[int, np.ndarray] = {}
    note = "The weights are not there, so there are no maps."
    if recogniser is not None and readable:
        try:
            found = class_maps(recogniser, [predictions.paths[chosen[i].row] for i in readable], device, megapixels)
            maps, note = dict(zip(readable, found, strict=True)), _explanation(recogniser, found)
        except InputError as error:
            note = f"There are no maps: {error}"
    cards = [
        _card(predictions, choice, picture, maps.get(i), is_attention=record.config.head == "full")
        for i, (choice, picture) in enumerate(zip(chosen, pictures, strict=True))
    ]
    hidden = bool((predictions.observed != predictions.labels).any())
    seen = (
        "“seen” is what training was told of such labels"
        if hidden
        else f"no label of {predictions.split} is hidden from anyone, so “seen” is what is true"
    )
    about = (
        f"Pictures of {predictions.split}, by the loss of their known labels: the worst, some at random, the best. "
        f"Probabilities {'are calibrated' if record.summary['calibration'] else 'are not calibrated'}; {seen}. {note}"
    )
    return element("div", element("p", about, class_="quiet"), element("div", cards, class_="cards"))


def _explanation(recogniser: Recogniser, maps: np.ndarray) -> str:
    height, width = maps.shape[2:]
    size = f"{height} \N{MULTIPLICATION SIGN} {width} positions"
    if hasattr(recogniser.model, "decoupling"):
        return (
            f"Below each picture, where each class looks: the attention of its semantic decoupling over {size}, from "
            "nothing (grey) to its peak (glowing), which is given in multiples of an even look at everything."
        )
    return (
        f"Below each picture, the class activation maps over {size}: what each position adds to a class, from nothing "
        "or less (grey) to the peak (glowing), which is given in logits. A logit is the mean over the positions."
    )


def _card(
    predictions: Predictions, choice: Choice, picture: Image | str, maps: np.ndarray | None, *, is_attention: bool
) -> Markup:
    row = choice.row
    classes = shown_classes(predictions, row)
    name = predictions.paths[row]
    more = len(classes) - SHOWN_CLASSES
    classes = classes[:SHOWN_CLASSES]
    tiles = None
    if maps is not None and not isinstance(picture, str):
        small = picture.copy()
        small.thumbnail((MAP_SIDE, MAP_SIDE))
        tiles = element(
            "div",
            [_tile(small, maps[c], predictions.class_names[c], is_attention=is_attention) for c in classes],
            class_="maps",
        )
    header = element("tr", [element("th", text, scope="col") for text in ("class", "true", "seen", "predicted")])
    table = element(
        "table",
        element("thead", header),
        element("tbody", [_verdict(predictions, row, c) for c in classes]),
        class_="verdicts",
    )
    shown = ", ".join(predictions.class_names[c] for c in np.flatnonzero(predictions.labels[row].numpy() == 1))
    return element(
        "article",
        show(picture, f"Picture with {shown or 'none of the classes'}"),
        element(
            "p",
            element("b", choice.why),
            f" {float(predictions.losses[row]):.3f} ",
            file_name(name),
            class_="caption",
        ),
        tiles,
        table,
        element("p", f"and {more} more", class_="quiet") if more > 0 else None,
        class_="card",
    )


def _tile(picture: Image, heat: np.ndarray, name: str, *, is_attention: bool) -> Markup:
    peak = float(heat.max())
    scaled = np.clip(heat, 0, None) / peak if peak > 0 else np.zeros_like(heat)
    remark = f"\N{MULTIPLICATION SIGN}{peak * heat.size:.1f}" if is_attention else f"{peak:+.1f}"
    image = element("img", src=data_uri(overlay(picture, scaled)), alt=f"Where {name} looks; peak {remark}")
    return element("figure", image, element("figcaption", isolated(name), " ", element("span", remark)))


def _verdict(predictions: Predictions, row: int, c: int) -> Markup:
    truth, probability = int(predictions.labels[row, c]), float(predictions.probabilities[row, c])
    said = probability >= float(predictions.thresholds[c])
    judgement = {1: "right" if said else "wrong", 0: "open", -1: "wrong" if said else "right"}[truth]
    return element(
        "tr",
        element("th", isolated(predictions.class_names[c]), scope="row"),
        element("td", TRUTHS[truth]),
        element("td", TRUTHS[int(predictions.observed[row, c])]),
        element("td", f"{'yes' if said else 'no'} {probability:.2f}", class_=judgement),
    )


def held_out(splits: Sequence[str]) -> str | None:
    """The split whose pictures are shown: test, else val."""
    return next((split for split in ("test", "val") if split in splits), None)
