"""The flags of the published codes: what they stand for, how they are shortened, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from pumlc.engine.command_line import notes, parse
from pumlc.engine.presets import PRESETS
from pumlc.engine.published_command_line import is_published
from pumlc.errors import InputError

COCO = (
    "there --dataset=COCO2014 --model-name=resnet101 --pretrainedModel={weights} --workers=8 --scaleSize=512 "
    "--cropSize=448 --topK=1 --b=35 --num-classes=80 --lr=1e-4 --ema=0.9997 --Stop_epoch=40 --alpha=1.0 --prob=0.1 "
    "--gamma=0.55"
)
VOC = (
    "there --dataset=VOC2007 --model-name=resnet101 --pretrainedModel={weights} --workers=8 --scaleSize=512 "
    "--cropSize=448 --topK=1 --b=45 --num-classes=20 --lr=4e-5 --Stop_epoch=55 --ema=0.991 --alpha=2.0 --prob=0.1 "
    "--gamma=0.85"
)
LARGE_LOSS = "--dataset coco --mod_scheme LL-R --delta_rel 0.4 --lr 1e-5 --optimizer adam"


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "resnet101.pth"
    path.touch()
    return path


@pytest.mark.parametrize(("line", "preset", "classes"), [(COCO, "pumlc-coco14", 80), (VOC, "pumlc-voc07", 20)])
def test_a_printed_line_is_its_preset(line, preset, classes, weights):
    config = parse(line.format(weights=weights).split())
    assert config.out.startswith(f"runs/{preset}-")
    assert config == dataclasses.replace(
        PRESETS[preset].config,
        data="there",
        weights=str(weights),
        num_classes=classes,
        scale_size=512,
        out=config.out,
    )


def test_shortened_and_in_any_order(weights):
    line = COCO.format(weights=weights)
    words = (
        f"--data COCO2014 --pretr {weights} -j8 --sc=512 --cr 448 -b 35 there --num 80 --em=0.9997 --St 40 --prob .1"
    )
    shortened = parse([*words.split(), "--alpha=1", "--gamma=0.55"])
    assert dataclasses.replace(shortened, out=None) == dataclasses.replace(parse(line.split()), out=None)


def test_defaults_are_the_published_ones():
    config = parse(["there", "--dataset=VOC2007"])
    assert (config.prob, config.batch_size, config.lr, config.image_size) == (0.5, 128, 1e-4, 448)
    # there is none for these: the recipe's
    assert (config.alpha, config.gamma, config.ema_decay, config.epochs) == (2.0, 0.85, 0.991, 56)
    assert (config.weights, config.num_classes) == ("auto", None)
    assert parse(["there", "--pretrainedModel=None"]).weights == "none"
    assert parse(["there", "--dataset=VG"]).layout == "vg"
    assert parse(["there", "--Stop_epoch=500"]).epochs == 80


def test_the_line_of_large_loss_matters_is_its_preset():
    config = parse(LARGE_LOSS.split())
    assert config.out.startswith("runs/ll-r-coco14-")
    expected = PRESETS["ll-r-coco14"].config
    assert config == dataclasses.replace(expected, data="data/coco", out=config.out)
    assert (expected.optimizer, expected.lr, expected.delta_rel, expected.early_stop) == ("adam", 1e-5, 0.4, 3.0)
    assert (expected.hold_out, expected.single_positive, expected.head_lr_factor) == (0.2, True, 10.0)


@pytest.mark.parametrize(("dataset", "preset"), [("pascal", "voc12"), ("nuswide", "nuswide"), ("cub", "cub")])
@pytest.mark.parametrize("scheme", ["LL-R", "LL-Ct", "LL-Cp"])
def test_the_other_lines_of_large_loss_matters(dataset, preset, scheme):
    expected = PRESETS[f"{scheme.lower()}-{preset}"].config
    line = f"--dataset {dataset} --mod {scheme} --delta_rel {expected.delta_rel} --lr {expected.lr} "
    config = parse([*line.split(), f"--optimizer={expected.optimizer}"])
    assert config == dataclasses.replace(expected, data=f"data/{dataset}", out=config.out)


def test_what_else_large_loss_matters_can_be_told():
    line = f"{LARGE_LOSS} --lr_mult 5 --bs 8 --num_e 3 --val_frac 0.1 --split_seed 7 --train_set_variant clean"
    line += " --arch resnet18 --use_pretrained no --exp_name one --ss_frac_train 1.0 --use_feats False"
    config = parse([*line.split(), "--data", "there", "--steps=2", "--device", "cpu", "--num_workers", "4"])
    assert (config.head_lr_factor, config.batch_size, config.epochs, config.hold_out) == (5.0, 8, 3, 0.1)
    assert (config.seed, config.single_positive, config.backbone, config.weights) == (7, False, "resnet18", "none")
    assert (config.data, config.out, config.steps, config.device) == ("there", "results/one", 2, "cpu")
    assert notes([*line.split(), "--num_workers", "4", "--gpu_num=1"]) == (
        "--num_workers 4 has no effect: processes share the cores of their machine; --threads changes that",
        "--gpu_num 1 has no effect: CUDA_VISIBLE_DEVICES chooses the GPU",
    )


def test_flags_of_this_program_come_on_top(weights):
    words = COCO.format(weights=weights).split()
    config = parse(["--steps", "3", "--no-local-global", "--out=here", *words, "--device", "cpu", "--image_size", "64"])
    assert (config.steps, config.local_global, config.out, config.device) == (3, False, "here", "cpu")
    assert (config.image_size, config.batch_size, config.total_epochs) == (64, 35, 80)
    assert parse([*words, "--recipe", "loss"]).head == "linear"
    assert parse([*words, "--epochs", "2"]).total_epochs == 2


def test_flags_without_effect_are_named():
    words = "there --model-name=resnet101 --model-path x --topK=1 --thre 0.8 -p 64 --local-rank=1 --local_rank=0 -j 8"
    found = notes([*words.split(), "--steps", "1"])
    assert [note.split(" has no effect: ")[0] for note in found] == [
        "--model-name resnet101",
        "--model-path x",
        "--topK 1",
        "--thre 0.8",
        "--print-freq 64",
        "--local-rank 0",
        "--workers 8",
    ]
    assert notes(["there", "--dataset=VG", "--lr=1"]) == ()


@pytest.mark.parametrize(
    ("words", "published"),
    [
        ("there --Stop=3", True),
        ("--b=35 there", True),
        ("there -b35", True),
        ("there --local_rank=0", True),
        ("there --lr 1 --alpha 2 --batch-size 3", False),  # flags of both programs
        ("--data there --batch_size 3", False),
        ("csv --workers 8", False),  # a preset
        ("--dataset coco --mod_scheme LL-R", True),
        ("--mod=LL-Cp", True),
        ("--method ll-r --delta_rel 0.2 --momentum 0.8", False),
        ("ll-r-coco14 --mod_scheme LL-R", False),
        ("--help", False),
        ("--", False),
        ("", False),
    ],
)
def test_how_it_is_told_apart(words, published):
    assert is_published(words.split()) is published


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "there --dataset=COCO2014 --colour=red",
            "unrecognized arguments: --colour=red. That code has FOLDER --dataset",
        ),
        ("--dataset=COCO2014", "the following arguments are required: FOLDER"),
        ("there --topK=1 --p=3", "ambiguous option: --p=3 could match --pretrainedModel, --prob, --print-freq"),
        ("there --b=many", "argument -b/--batch-size: invalid int value: 'many'"),
        ("there --dataset=COCO", "--dataset is 'COCO'; wanted COCO2014, VOC2007, VG."),
        ("there --pretrainedModel=nowhere.pth", "--pretrainedModel names nowhere.pth, which is not there"),
        ("there --Stop_epoch=-1", "--Stop_epoch is -1; wanted the last epoch to run, counted from 0."),
        ("--mod_scheme LL-R --delta_rel 1", "the following arguments are required: --dataset. That code has --dataset"),
        ("--dataset voc --mod_scheme LL-R --delta_rel 1", "--dataset is 'voc'; wanted pascal, coco, nuswide, cub."),
        ("--dataset coco --mod_scheme LL-X --delta_rel 1", "argument --mod_scheme: invalid choice: 'LL-X'"),
        (f"{LARGE_LOSS} --use_feats", "--use_feats is True; here it can only be False. Leave the flag away."),
        (f"{LARGE_LOSS} --ss_frac_train 0.5", "--ss_frac_train is 0.5; here it can only be 1. Leave the flag away."),
        ("there --topK=1 --resume x", "--resume takes all settings from the run"),
        ("there --topK=1 --prob=2", "--prob is 2, wanted between 0 and 1."),
    ],
)
def test_refused(words, message):
    with pytest.raises(InputError) as caught:
        parse(words.split())
    assert message in str(caught.value)


def test_help_is_that_of_this_program(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["there", "--dataset=COCO2014", "--help"])
    assert caught.value.code == 0
    assert "--published-evaluation" in capsys.readouterr().out
