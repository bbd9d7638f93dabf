"""Whole runs on forty small pictures: what they log, how they stop, go on and fail."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import signal
from pathlib import Path

import pytest
import torch

from pumlc.data.reader import ImageReader
from pumlc.engine import DivergedError, evaluator, trainer
from pumlc.engine.checkpoint import checkpoints, load_checkpoint
from pumlc.engine.command_line import parse
from pumlc.engine.config import Config
from pumlc.engine.distributed import World
from pumlc.engine.published_evaluation import NAME
from pumlc.engine.trainer import Trainer, fit
from pumlc.errors import InputError
from pumlc.nn.pretrained import read_metadata, read_tensors
from tests.engine.runs import events, tiny_run

ALONE = World(torch.device("cpu"))


@pytest.fixture
def config(picture_table: Path, tmp_path: Path) -> Config:
    """Two epochs of five steps."""
    return dataclasses.replace(tiny_run(picture_table, tmp_path / "run"), image_size=32, epochs=2)


def losses(config: Config) -> dict[int, float]:
    return {event["step"]: event["loss"] for event in events(config, "train")}


def test_input_pipelines_last_as_long_as_the_run(config, monkeypatch):
    built = []
    new_pipeline = ImageReader._new_pipeline
    monkeypatch.setattr(ImageReader, "_new_pipeline", lambda *a, **k: built.append(a[0]) or new_pipeline(*a, **k))
    assert fit(dataclasses.replace(config, epochs=3)) == 0
    assert len(built) == len(set(map(id, built))) == 3  # train, val, test


def test_finished_run(config, capsys):
    assert fit(config) == 0
    run = Path(config.out)
    assert sorted(path.name for path in run.iterdir()) == [
        "best.safetensors",
        "checkpoints",
        "config.json",
        "environment.json",
        "evaluation",
        "log.jsonl",
    ]
    assert [path.name for path in checkpoints(run / "checkpoints")] == ["step-00000005.pt", "step-00000010.pt"]
    assert sorted(losses(config)) == list(range(1, 11))
    for event in events(config, "train"):
        assert {"epoch", "lr", "images_per_second", "data_wait"} <= set(event)

    evaluations = [(event["epoch"], event["split"], event["weights"]) for event in events(config, "eval")]
    best = events(config, "end")[-1]["best_on_val"]
    assert evaluations == [
        (1, "val", "last"),
        (2, "val", "last"),
        (2, "test", "last"),
        (best["epoch"], "test", "best"),
    ]
    on_val = [value for event in events(config, "eval")[:2] for value in (event["mAP"], event["mAP_ema"])]
    assert best["mAP"] == max(on_val)
    for event in events(config, "eval"):
        assert 0 < event["mAP"] <= 100
        assert {"mAP_ema", "CF1", "OF1"} <= set(event)
        assert event["classes_without_positives"] == 1
        assert event["AP"]["absent"] is None

    lines = (run / "log.jsonl").read_text().splitlines()
    end = json.loads(lines[-1])
    assert end["event"] == "end"
    assert end["mAP"] == events(config, "eval")[-1]["mAP"]
    assert end["split"] == "test"
    assert end["images_per_second"] > 0
    assert 0 <= end["data_wait"] < 1
    assert end["seconds"] > 0
    header = read_metadata(run / "best.safetensors")
    assert json.loads(header["class_names"]) == ["red", "green", "blue", "absent"]
    assert (json.loads(header["backbone"]), json.loads(header["image_size"])) == ("test_resnet", 32)
    output = capsys.readouterr().out
    assert "epoch 2/2" in output
    assert "% of the time waiting for data; " in output
    assert f"python -m pumlc.predict {run}" in output
    assert "1 classes without positives left out" in output


def test_steps_end_a_run_early(config):
    config = dataclasses.replace(config, steps=3)
    assert fit(config) == 0
    assert sorted(losses(config)) == [1, 2, 3]
    assert events(config, "end")[0]["mAP"] > 0


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mixup": 1.0},
        {"method": "ll-cp", "delta_rel": 10.0, "epochs": 3, "single_positive": True},
        {"method": "mile", "mile_k1": 4, "mile_k2": 5, "mile_sample": True, "lr": 0.03},  # stopped with a teacher
        {"method": "mile", "mile_k1": 7, "mile_k2": 2, "mile_threshold": 0.2},  # stopped where the teacher is made
        {"method": "role", "expected_positives": 1.5, "single_positive": True, "seed": 3},
    ],
    ids=lambda settings: settings.get("method", "mixup" if settings else "pu-mlc"),
)
def test_interrupted_run_goes_on_as_if_it_had_not_been(settings, config, tmp_path, monkeypatch, capsys):
    config = dataclasses.replace(config, **settings)
    whole = dataclasses.replace(config, out=str(tmp_path / "whole"))
    assert fit(whole) == 0

    step = Trainer.train_step
    seen = []

    def interrupted(self, batch, epoch):
        seen.append(1)
        if len(seen) == 7:
            signal.raise_signal(signal.SIGINT)
        return step(self, batch, epoch)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    assert fit(config) == 130
    assert f"train.py --resume {config.out}" in capsys.readouterr().out
    assert not events(config, "end")
    monkeypatch.setattr(Trainer, "train_step", step)
    torch.manual_seed(99)
    assert fit(parse(["--resume", config.out])) == 0

    assert losses(config) == losses(whole)
    assert len(losses(whole)) == 5 * config.epochs
    _, state = load_checkpoint(Path(config.out) / "checkpoints")
    _, expected = load_checkpoint(Path(whole.out) / "checkpoints")
    for part in ("model", "average", "optimizer", "method", "memorisation"):
        torch.testing.assert_close(
            state[part], expected[part], rtol=0, atol=0, msg=lambda text, part=part: f"{part}: {text}"
        )
    assert events(config, "end")[0]["mAP"] == events(whole, "end")[0]["mAP"]
    numbers = ([list(event.items())[2:] for event in events(run, "method")] for run in (config, whole))
    assert next(numbers) == next(numbers)
    if config.method == "ll-cp":  # stopped with proposals that were not carried out yet
        counts = [event["corrected_for_good"] for event in events(config, "method")]
        assert 0 == counts[0] < counts[1] < counts[2]


def test_early_stop(config, monkeypatch, capsys):
    """val mAP 50, 60, 58, 56 with the limit at 3."""
    values = iter([50.0, 60.0, 58.0, 56.0])
    score = evaluator.score
    monkeypatch.setattr(evaluator, "score", lambda *a: dataclasses.replace(score(*a), mean_ap=next(values, 40.0)))
    assert fit(dataclasses.replace(config, epochs=9, early_stop=3.0, ema_decay=0.0)) == 0
    assert max(losses(config)) == 20
    assert "val mAP 56.00 is more than 3 below 60.00: stopping here" in capsys.readouterr().out
    stop = events(config, "early_stop")
    assert [(event["epoch"], event["best"], event["mAP"]) for event in stop] == [(4, 60.0, 56.0)]
    assert events(config, "end")[0]["best_on_val"]["epoch"] == 2

    assert fit(parse(["--resume", config.out])) == 0  # which is over
    assert max(losses(config)) == 20


def test_mixup_in_the_log(config):
    config = dataclasses.replace(config, steps=2, mixup=0.5)
    assert fit(config) == 0
    for event in events(config, "train"):
        assert event["loss"] == pytest.approx(event["loss_pu"] + 0.5 * event["loss_mixup"])
        assert event["loss_mixup"] > 0


def test_mixup_does_not_depend_on_the_threads_that_load_pictures(config, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "use_threads", lambda threads, world: threads)  # the network keeps its own
    few = dataclasses.replace(config, steps=3, mixup=1.0)
    more = dataclasses.replace(few, threads=3, out=str(tmp_path / "more"))
    for each in (few, more):
        assert fit(each) == 0
    assert losses(few) == losses(more)


def without_split(table: Path, folder: Path, *names: str) -> str:
    shutil.copytree(table, folder)
    rows = (folder / "labels.csv").read_text().splitlines(keepends=True)
    (folder / "labels.csv").write_text("".join(row for row in rows if not any(f",{name}," in row for name in names)))
    return str(folder)


def test_nothing_is_selected_on_the_test_split(config, picture_table, tmp_path):
    data = without_split(picture_table, tmp_path / "data", "val")
    config = dataclasses.replace(config, data=data, hold_out=0.0)
    assert fit(config) == 0
    assert [event["split"] for event in events(config, "eval")] == ["test", "test"]
    end = events(config, "end")[0]
    assert end["mAP"] == end["mAP_last"] == events(config, "eval")[-1]["mAP_ema"]
    assert (end["weights"], end["best_on_val"]) == ("ema", None)
    _, state = load_checkpoint(Path(config.out) / "checkpoints")
    kept = read_tensors(Path(config.out) / "best.safetensors")
    assert not torch.equal(kept["head.weight"], state["model"]["head.weight"])


def test_no_test_split(config, picture_table, tmp_path):
    config = dataclasses.replace(config, data=without_split(picture_table, tmp_path / "data", "test"))
    assert fit(config) == 0
    end = events(config, "end")[0]
    assert end["split"] == "val"
    assert end["mAP"] == pytest.approx(end["best_on_val"]["mAP"])


def test_nothing_held_out_and_no_average(config, picture_table, tmp_path, capsys):
    data = without_split(picture_table, tmp_path / "data", "val", "test")
    config = dataclasses.replace(config, data=data, hold_out=0.0, ema_decay=0.0, epochs=1)
    assert fit(config) == 0
    assert events(config, "end")[0]["mAP"] is None
    assert "there is no mAP to report" in capsys.readouterr().out
    _, state = load_checkpoint(Path(config.out) / "checkpoints")
    kept = read_tensors(Path(config.out) / "best.safetensors")
    assert torch.equal(kept["head.weight"], state["model"]["head.weight"])


@pytest.mark.parametrize("left_out", [(), ("val",)])
def test_published_evaluation_stands_beside_the_headline(left_out, config, picture_table, tmp_path, capsys):
    data = without_split(picture_table, tmp_path / "data", *left_out)
    config = dataclasses.replace(config, data=data, hold_out=0.0)
    plain = dataclasses.replace(config, out=str(tmp_path / "plain"))
    config = dataclasses.replace(config, published_evaluation=True)
    assert fit(plain) == 0
    assert not events(plain, NAME)
    assert NAME not in events(plain, "end")[0]

    assert fit(dataclasses.replace(config, steps=5)) == 0
    assert fit(parse(["--resume", config.out, "--steps", "None"])) == 0  # the maxima of the first epoch go on
    last = [event for event in events(config, "eval") if event["split"] == "test" and event["weights"] == "last"]
    reached = [max(event["mAP"], event["mAP_ema"]) for event in last]
    maxima = events(config, "end")[-1][NAME]
    assert maxima["mAP"] == pytest.approx(max(reached))
    assert maxima["CF1"] >= max(event["CF1"] for event in last)
    assert maxima["OF1"] >= max(event["OF1"] for event in last)
    assert sorted({event["epoch"] for event in events(config, NAME)}) == [1, 2]
    output = capsys.readouterr().out
    assert f"{NAME}: mAP {maxima['mAP']:.2f}, CF1 {maxima['CF1']:.2f}, OF1 {maxima['OF1']:.2f}." in output
    for key in ("mAP", "mAP_last", "CF1", "OF1", "split", "weights", "best_on_val"):
        assert events(config, "end")[-1][key] == events(plain, "end")[0][key], key


def test_an_early_stop_needs_a_val_split(config, picture_table, tmp_path):
    data = without_split(picture_table, tmp_path / "data", "val")
    with pytest.raises(InputError, match=r"--early-stop looks at a val split, and csv has none. Add --hold-out 0\.2"):
        fit(dataclasses.replace(config, data=data, hold_out=0.0, early_stop=3.0))
    assert not Path(config.out).exists()


def test_published_evaluation_needs_a_test_split(config, picture_table, tmp_path):
    data = without_split(picture_table, tmp_path / "data", "test")
    with pytest.raises(InputError, match="--published-evaluation needs a test split, and csv has none"):
        fit(dataclasses.replace(config, data=data, published_evaluation=True))
    assert not Path(config.out).exists()


def test_frozen_layers_stay(config):
    config = dataclasses.replace(config, train_all=False, epochs=1)
    trainer = Trainer(config, ALONE)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.run()
    changed = {name.split(".")[1] for name, t in trainer.model.state_dict().items() if not torch.equal(t, before[name])}
    assert changed == {"layer4", "weight", "bias"}


def test_diverged_run_says_where_and_why(config):
    config = dataclasses.replace(config, lr=1e30, log_every=4)
    with pytest.raises(DivergedError) as caught:
        fit(config)
    message = str(caught.value)
    assert "the loss of step 2 is not finite" in message
    assert "logits of 5 of 5 images are not finite" in message
    assert "red: positives" in message
    assert "last checkpoint is missing" in message
    assert not events(config, "end")


def test_diverged_run_names_the_last_checkpoint(config):
    assert fit(dataclasses.replace(config, steps=5)) == 0
    again = dataclasses.replace(parse(["--resume", config.out, "--steps", "None"]), lr=math.inf)
    with pytest.raises(DivergedError, match=r"last checkpoint is .*step-00000005\.pt"):
        fit(again)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 27}, "larger than the training data: 26"),
        ({"data": "nowhere"}, "nowhere"),
        ({"backbone": "test_resnt"}, r"Unknown backbone 'test_resnt'\. Near names: test_resnet"),
        ({"prob": 1e-9}, "No positive label is left"),
        ({"weights": "no.pt"}, r"There is no weight file no\.pt"),
        ({"precision": "fp16"}, "--precision fp16 needs a GPU"),
    ],
)
def test_bad_input_leaves_no_run_folder(config, change, message):
    with pytest.raises(InputError, match=message):
        fit(dataclasses.replace(config, **change))
    assert not Path(config.out).exists()


def test_folder_that_holds_a_run(config):
    config = dataclasses.replace(config, steps=1)
    fit(config)
    with pytest.raises(InputError, match="holds a run already"):
        fit(config)


def test_resume_with_other_data(config, picture_table, tmp_path):
    fit(dataclasses.replace(config, steps=1))
    other = tmp_path / "other"
    shutil.copytree(picture_table, other)
    table = other / "labels.csv"
    table.write_text(table.read_text().replace("red,green", "cyan,green"))
    with pytest.raises(InputError, match=r"has 4 classes \(red, green.*the data 4 \(cyan, green"):
        fit(parse(["--resume", config.out, "--data", str(other)]))
    fewer = Path(without_split(picture_table, tmp_path / "fewer"))
    rows = (fewer / "labels.csv").read_text().splitlines(keepends=True)
    (fewer / "labels.csv").write_text("".join(rows[:1] + rows[6:]))
    resumed = parse(["--resume", config.out, "--data", str(fewer)])
    with pytest.raises(InputError, match="has 26 training images, the data 21"):
        fit(resumed)


def test_resume_from_a_truncated_checkpoint(config):
    fit(dataclasses.replace(config, steps=1))
    path = checkpoints(Path(config.out) / "checkpoints")[0]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"step-00000001\.pt is truncated or damaged"):
        fit(parse(["--resume", config.out]))


def test_weights_of_another_run(config, tmp_path):
    fit(dataclasses.replace(config, steps=1))
    best = Path(config.out) / "best.safetensors"
    again = dataclasses.replace(config, weights=str(best), out=str(tmp_path / "again"))
    trainer = Trainer(again, ALONE)
    assert torch.equal(trainer.model.head.weight.detach(), read_tensors(best)["head.weight"])


def test_full_disk_keeps_the_checkpoint_before(config, monkeypatch):
    config = dataclasses.replace(config, ema_decay=0.0)
    save = torch.save
    calls = []

    def save_once(state, file):
        calls.append(1)
        if len(calls) > 1:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", save_once)
    with pytest.raises(InputError, match=r"step-00000010\.pt could not be written: No space left on device"):
        fit(config)
    folder = Path(config.out) / "checkpoints"
    assert {path.suffix for path in folder.iterdir()} == {".pt", ".safetensors"}
    assert [path.name for path in folder.glob("*.pt")] == ["step-00000005.pt"]
    assert load_checkpoint(folder)[1]["step"] == 5
