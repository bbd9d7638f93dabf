"""Held-out pictures with what is in them, what training would see of that, and what the model says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from pumlc.engine.recogniser import Recogniser
from pumlc.errors import InputError
from pumlc.metrics.f1 import THRESHOLD
from pumlc.nn import PUMLC
from pumlc.report.heat import class_maps, overlay
from pumlc.report.markup import Markup, element, isolated
from pumlc.report.predictions import Predictions
from pumlc.report.record import Record
from pumlc.report.thumbnails import LARGE, data_uri, file_name, show, thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN_CLASSES = 6  # of a picture
MAP_SIDE = 144  # pixels
TRUTHS = {1: "yes", 0: "?", -1: "no"}


GROUPS = ("Highest loss", "At random", "Lowest loss")


class Choice(NamedTuple):
    row: int
    group: str


def choose(predictions: Predictions, count: int, seed: int) -> list[Choice]:
    """A third each of the highest losses, of the lowest, and of the rest at random."""
    losses = predictions.losses.numpy()
    order = [int(row) for row in np.argsort(losses, kind="stable") if np.isfinite(losses[row])]
    each = min(count, len(order)) // 3
    worst, best, rest = order[len(order) - each :][::-1], order[:each], order[each : len(order) - each]
    drawn = np.random.RandomState(seed).permutation(len(rest))[: max(0, min(count, len(order)) - 2 * each)]
    return [
        *(Choice(row, GROUPS[0]) for row in worst),
        *(Choice(rest[i], GROUPS[1]) for i in drawn),
        *(Choice(row, GROUPS[2]) for row in best),
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
    is_attention = recogniser is not None and isinstance(recogniser.model, PUMLC)
    maps: dict[int, np.ndarray] = {}
    note = "The weights are not there, so there are no maps."
    if recogniser is not None and readable:
        try:
            found = class_maps(recogniser, [predictions.paths[chosen[i].row] for i in readable], device, megapixels)
            maps, note = dict(zip(readable, found, strict=True)), _explanation(found, is_attention=is_attention)
        except InputError as error:
            note = f"There are no maps: {error}"
    cards: dict[str, list[Markup]] = {group: [] for group in GROUPS}
    for i, (choice, picture) in enumerate(zip(chosen, pictures, strict=True)):
        card = _card(predictions, choice.row, picture, maps.get(i), is_attention=is_attention)
        cards[choice.group].append(card)
    hidden = bool((predictions.observed != predictions.labels).any())
    about = (
        f"Pictures of {predictions.split}, by the loss of their known labels: the worst, some at random, the best. "
        "Under each class is what is true"
        + (", what of it is seen in training (? is unknown)" if hidden else ", which nobody hides in this split")
        + ", and what the model says, with its "
        + ("calibrated probability" if record.summary["calibration"] else "probability, which is not calibrated")
        + f". A yes is at least {_threshold_words(record)}. {note}"
    )
    columns = [
        element("div", element("h3", group), element("div", own, class_="cards")) for group, own in cards.items() if own
    ]
    return element("div", element("p", about, class_="quiet"), element("div", columns, class_="triple"))


def _threshold_words(record: Record) -> str:
    fitted_on = record.summary["fitted_on"]
    return f"{THRESHOLD:g}" if fitted_on is None else f"the threshold that was chosen for the class on {fitted_on}"


def _explanation(maps: np.ndarray, *, is_attention: bool) -> str:
    """What the maps [N, C, h, w] show."""
    height, width = maps.shape[2:]
    size = f"{height} \N{MULTIPLICATION SIGN} {width} positions"
    if is_attention:
        return (
            f"The maps are where each class looks: the attention of its semantic decoupling over {size}, from "
            "nothing (grey) to its peak (glowing), which is given in multiples of an even look at everything."
        )
    return (
        f"The maps are class activation maps over {size}: what each position adds to a class, from nothing "
        "or less (grey) to the peak (glowing), which is given in logits. A logit is the mean over the positions."
    )


def _card(
    predictions: Predictions, row: int, picture: Image | str, maps: np.ndarray | None, *, is_attention: bool
) -> Markup:
    classes = shown_classes(predictions, row)
    more = len(classes) - SHOWN_CLASSES
    small = None
    if maps is not None and not isinstance(picture, str):
        small = picture.copy()
        small.thumbnail((MAP_SIDE, MAP_SIDE))
    tiles = []
    for c in classes[:SHOWN_CLASSES]:
        image, remark = (None, None) if small is None else _map(small, maps[c], is_attention=is_attention)
        tiles.append(_tile(predictions, row, c, image, remark))
    present = ", ".join(predictions.class_names[c] for c in np.flatnonzero(predictions.labels[row].numpy() == 1))
    loss = f"loss {float(predictions.losses[row]):.3f} "
    return element(
        "article",
        show(picture, f"Picture with {present or 'none of the classes'}"),
        element("p", element("b", loss), file_name(predictions.paths[row]), class_="caption"),
        element("div", tiles, class_="maps"),
        element("p", f"and {more} more", class_="quiet") if more > 0 else None,
        class_="card",
    )


def _map(picture: Image, heat: np.ndarray, *, is_attention: bool) -> tuple[str, str]:
    """The map over the picture as the address of an image, and how high its peak is."""
    peak = float(heat.max())
    scaled = np.clip(heat, 0, None) / peak if peak > 0 else np.zeros_like(heat)
    remark = (
        f"\N{MULTIPLICATION SIGN}{peak * heat.size:.1f}"
        if is_attention
        else f"{peak:+.1f}".replace("-", "\N{MINUS SIGN}")
    )
    return data_uri(overlay(picture, scaled)), remark


def _tile(predictions: Predictions, row: int, c: int, image: str | None, remark: str | None) -> Markup:
    name = predictions.class_names[c]
    truth, seen = int(predictions.labels[row, c]), int(predictions.observed[row, c])
    probability = float(predictions.probabilities[row, c])
    said = probability >= float(predictions.thresholds[c])
    judgement = {1: "right" if said else "wrong", 0: "open", -1: "wrong" if said else "right"}[truth]
    caption = element(
        "figcaption",
        element("b", isolated(name)),
        None if remark is None else element("span", f" {remark}"),
        element("p", f"true {TRUTHS[truth]}", None if seen == truth else f", seen {TRUTHS[seen]}"),
        element("p", f"model {'yes' if said else 'no'} {probability:.2f}", class_=judgement),
    )
    picture = None if image is None else element("img", src=image, alt=f"Where {name} looks; peak {remark}")
    return element("figure", picture, caption)


def held_out(splits: Sequence[str]) -> str | None:
    """The split whose pictures are shown: test, else val."""
    return next((split for split in ("test", "val") if split in splits), None)
