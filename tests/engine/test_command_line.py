"""From words on the command line to settings."""

from __future__ import annotations

import dataclasses
import json

import pytest

from pumlc.data.augmentation import Augmentation
from pumlc.engine.command_line import notes, parse
from pumlc.engine.config import Config
from pumlc.engine.presets import PRESETS
from pumlc.errors import InputError


def test_no_word_is_the_demo():
    config = parse([])
    assert dataclasses.replace(config, out=None) == PRESETS["demo"].config
    assert config.out.startswith("runs/demo-")


def test_flags_that_scripts_rely_on():
    words = (
        "csv --data there --prob 0.3 --single-positive --epochs 3 --steps 7 --batch-size 5 --backbone resnet10t "
        "--image-size 64 --no-train-all --seed 4 --out here --device cpu"
    )
    config = parse(words.split())
    assert (config.data, config.prob, config.single_positive, config.epochs) == ("there", 0.3, True, 3)
    assert (config.steps, config.batch_size, config.backbone, config.image_size) == (7, 5, "resnet10t", 64)
    assert (config.train_all, config.seed, config.out, config.device) == (False, 4, "here", "cpu")
    assert parse(["pumlc-voc07", "--data", "x", "--train-all"]).train_all is True


def test_published_recipes():
    coco = parse(["pumlc-coco14", "--data", "x"])
    assert (coco.batch_size, coco.lr, coco.ema_decay, coco.alpha, coco.gamma) == (35, 1e-4, 0.9997, 1.0, 0.55)
    assert (coco.epochs, coco.total_epochs, coco.prob, coco.image_size) == (41, 80, 0.1, 448)
    voc = parse(["pumlc-voc07", "--data", "x"])
    assert (voc.batch_size, voc.lr, voc.ema_decay, voc.alpha, voc.gamma) == (45, 4e-5, 0.991, 2.0, 0.85)
    assert (voc.epochs, voc.total_epochs, voc.prob, voc.layout) == (56, 80, 0.1, "voc")
    for config in (coco, voc):
        assert (config.backbone, config.weight_decay, config.pct_start) == ("resnet101", 1e-4, 0.2)
        assert (config.head, config.local_global, config.mixup, config.mixup_beta) == ("full", True, 1.0, 0.3)
        for switch in ("train_all", "sync_statistics", "detach_target", "ema_warmup", "published_evaluation"):
            assert getattr(config, switch) is False
        augmentation = Augmentation(config.image_size, config.scale_size)
        assert (augmentation.scale_size, augmentation.crop_sizes) == (512, (512, 448, 384, 320, 256))


def test_recipe_sets_defaults():
    full = parse(["demo", "--recipe", "full"])
    assert (full.recipe, full.head, full.local_global, full.mixup) == ("full", "full", True, 1.0)
    assert full.lr < parse(["demo"]).lr == parse(["demo", "--recipe", "loss"]).lr
    coco = parse(["pumlc-coco14", "--data", "x", "--recipe", "loss"])
    assert (coco.recipe, coco.head, coco.local_global, coco.mixup, coco.lr) == ("loss", "linear", False, 0.0, 1e-4)
    assert parse(["demo", "--lr", "1e-3", "--recipe", "full"]).lr == 1e-3
    assert parse(["demo", "--head", "full"]).lr == full.lr
    assert parse(["demo", "--recipe", "full", "--head=linear"]).lr == parse(["demo"]).lr
    some = parse(["csv", "--data", "x", "--mixup", "0.5", "--no-local-global", "--recipe=full"])
    assert (some.head, some.local_global, some.mixup) == ("full", False, 0.5)
    loss = parse(["csv", "--data", "x", "--recipe", "loss"])
    assert (loss.head, loss.local_global, loss.mixup) == ("linear", False, 0.0)


def test_only_the_published_code_s_words_have_notes():
    assert notes(["csv", "--data", "x", "--epochs", "3"]) == ()
    assert len(notes(["folder", "--dataset=VOC2007", "--topK=1"])) == 1


def test_epochs_alone_span_the_schedule():
    assert parse(["pumlc-coco14", "--data", "x", "--epochs", "3"]).total_epochs == 3
    assert parse(["pumlc-coco14", "--data", "x", "--epochs", "3", "--schedule-epochs", "80"]).total_epochs == 80
    assert parse(["pumlc-coco14", "--data", "x", "--epochs=3"]).total_epochs == 3


def test_help_has_every_sentence(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["pumlc-voc07", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(Config):
        assert f"--{field.name.replace('_', '-')}" in text
    for name in PRESETS:
        assert name in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("pumlc-coco --data x", "Unknown preset 'pumlc-coco'. Did you mean pumlc-coco14?"),
        ("--prob 1.5", "--prob is 1.5, wanted between 0 and 1."),
        ("--seed -1", "--seed is -1, wanted between 0 and 4.29497e+09."),
        ("--batch-size 0", "--batch-size is 0, wanted at least 1."),
        ("--epochs 3 --schedule-epochs 2", "less than the 3 epochs"),
        ("--method an --mixup 1", "--mixup 1 is a part of --method pu-mlc; an has no use for it."),
        ("--batch-size 1 --mixup 1", "--mixup 1 needs two images to mix; --batch-size is 1."),
        ("--mixup-beta 0", "--mixup-beta is 0, wanted at least 0.05."),
        ("--word-vectors glove.txt", "--word-vectors glove.txt has no use in a linear head. Add --head full."),
        ("--boost 5 --head full", "--boost 5 has no use in a full head. Add --head linear."),
        ("--boost 0.5", "--boost is 0.5, wanted at least 1."),
        ("--expected-positives -1", "--expected-positives is -1, wanted at least 0."),
        ("--resume nowhere", "nowhere is no run folder"),
    ],
)
def test_bad_words(words, message):
    with pytest.raises(InputError) as caught:
        parse(words.split())
    assert message in str(caught.value)


@pytest.mark.parametrize("words", ["csv", "--epochs many", "--no-such-flag", "--recipe half", "--recipe"])
def test_what_tyro_refuses(words, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(words.split())
    assert caught.value.code == 2


@pytest.fixture
def run(tmp_path):
    config = dataclasses.replace(PRESETS["pumlc-coco14"].config, data="x", out="old", steps=5)
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
    return str(tmp_path)


def test_resume_takes_the_settings_of_the_run(run):
    config = parse(["--resume", run, "--steps", "9", "--device", "cpu", "--max-bad-share", "0.1"])
    assert (config.data, config.batch_size, config.steps, config.device) == ("x", 35, 9, "cpu")
    assert (config.resume, config.out) == (run, run)
    assert parse(["--resume", run, "--steps", "None"]).steps is None


def test_resume_moves_the_end_within_the_schedule(run):
    config = parse(["--resume", run, "--epochs", "60"])
    assert (config.epochs, config.total_epochs) == (60, 80)
    with pytest.raises(InputError, match="--epochs cannot change from 41 to 81"):
        parse(["--resume", run, "--epochs", "81"])


def test_resume_refuses_what_would_change_the_result(run):
    with pytest.raises(InputError, match=r"--lr cannot change from 0\.0001 to 0\.1.*--weights"):
        parse(["--resume", run, "--lr", "0.1"])


def test_settings_that_cannot_be_read(tmp_path):
    (tmp_path / "config.json").write_text('{"data": ')
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        parse(["--resume", str(tmp_path)])
