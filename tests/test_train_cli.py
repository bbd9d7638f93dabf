"""train.py as it is typed: exit statuses, messages, and two processes under torchrun."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pumlc.engine.log import read_events as read_log
from pumlc.errors import MissingPackageError

ROOT = Path(__file__).parents[1]
TINY = ["--backbone", "test_resnet", "--image-size", "32", "--threads", "1", "--device", "cpu", "--log-every", "1"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.fixture
def train(monkeypatch):
    """Calls train.py's main with these arguments, in this process."""
    spec = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        return module.main()

    return call


def test_finished_run_and_its_predictions(train, picture_table, tmp_path, capsys):
    run = tmp_path / "run"
    assert train("csv", "--data", picture_table, "--epochs", 1, "--batch-size", 8, "--out", run, *TINY) == 0
    assert read_log(run)[-1]["event"] == "end"
    assert f"Try next: python -m pumlc.predict {run} " in capsys.readouterr().out


@pytest.mark.parametrize("layers", [["--train-all"], ["--no-train-all"]])
def test_global_branches_train_go_on_and_predict(layers, train, picture_table, tmp_path, capsys):
    from pumlc.engine.recogniser import load_recogniser

    run = tmp_path / "run"
    settings = ["--local-global", *layers, "--epochs", 1, "--batch-size", 8, "--out", run, *TINY]
    assert train("csv", "--data", picture_table, *settings) == 0
    assert "9 convolutions with a global branch, 1 left as they are" in capsys.readouterr().out
    assert read_log(run)[0]["local_global_convolutions"] == 9
    recogniser = load_recogniser(run)
    assert len(recogniser.model.conversion.wrapped) == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["csv", "--data", "nowhere", "--out", "{out}"], "nowhere"),
        (["cvs"], "Did you mean csv?"),
        (["csv", "--data", "{data}", "--out", "{out}", "--backbone", "resnet81"], "Near names: "),
        (["csv", "--data", "{data}", "--out", "{out}", "--batch-size", "1000"], "larger than the training data"),
        (["pumlc-coco14", "--data", "{data}", "--out", "{out}"], "train2014"),
        (["--resume", "{out}"], "no run folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(train, picture_table, tmp_path, capsys, arguments, message):
    out = tmp_path / "run"
    assert train(*(argument.format(data=picture_table, out=out) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_diverged_run_is_status_1(train, picture_table, tmp_path, capsys):
    arguments = ["csv", "--data", picture_table, "--lr", "1e30", "--batch-size", 5, "--out", tmp_path / "run", *TINY]
    assert train(*arguments) == 1
    assert capsys.readouterr().err.startswith("error: the loss of step ")


def test_missing_package_is_status_2(train, picture_table, monkeypatch, capsys):
    def missing(*arguments):
        raise MissingPackageError("This needs the package timm. Install it with: pip install timm")

    monkeypatch.setattr("pumlc.engine.trainer.fit", missing)
    assert train("csv", "--data", picture_table) == 2
    assert "pip install timm" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("head", ["linear", "full"])
def test_two_processes_train_like_one(head, train, picture_table, tmp_path):
    shared = [
        "csv",
        "--data",
        picture_table,
        "--steps",
        4,
        "--no-train-all",
        "--head",
        head,
        "--precision",
        "fp32",
        *TINY,
    ]
    alone, two = tmp_path / "alone", tmp_path / "two"
    assert train(*shared, "--batch-size", 8, "--out", alone) == 0
    arguments = [*TORCHRUN, ROOT / "train.py", *shared, "--batch-size", 4, "--out", two]
    done = subprocess.run(
        list(map(str, arguments)), cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Run folder: ") == 1

    logs = [read_log(run) for run in (alone, two)]
    kinds = [[event["event"] for event in log] for log in logs]
    assert kinds[1] == kinds[0]
    losses = [[event["loss"] for event in log if event["event"] == "train"] for log in logs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert len(losses[0]) == 4
    assert logs[1][0]["processes"] == 2
    assert logs[1][-1]["mAP"] == pytest.approx(logs[0][-1]["mAP"], abs=0.5)


@pytest.mark.slow
def test_two_processes_go_on_with_the_run_of_one(train, picture_table, tmp_path, capsys):
    """An epoch of 13 steps of 2 images, of which 7 are done, and then of 6 steps of 4 after the third."""
    out = tmp_path / "run"
    shared = [
        "csv",
        "--data",
        picture_table,
        "--epochs",
        2,
        "--log-every",
        1,
        "--precision",
        "fp32",
        "--out",
        out,
        *TINY,
    ]
    assert train(*shared, "--batch-size", 2, "--steps", 7, "--checkpoint-steps", 1) == 0
    arguments = [*TORCHRUN, ROOT / "train.py", "--resume", out, "--steps", 10_000]
    done = subprocess.run(
        list(map(str, arguments)), cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "2 images of the epoch are seen twice, none is left out, and the run is not bit for bit" in done.stdout
    log = read_log(out)
    resumed = next(event for event in log if event["event"] == "resume")
    assert (resumed["processes"], resumed["step"], resumed["steps_per_epoch"]) == (2, 3, 6)
    steps = [event["step"] for event in log[log.index(resumed) :] if event["event"] == "train"]
    assert steps == list(range(4, 13))
    assert log[-1]["event"] == "end"


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.01, 0.2])
def test_damaged_pictures_are_named_and_too_many_end_all_processes(share, picture_table, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(picture_table, data)
    bad = [data / name for name in ("train_3.jpg", "train_4.jpg", "test_1.jpg")]
    for path in bad:
        path.write_bytes(b"\xff\xd8 not a picture")
    arguments = [
        *TORCHRUN,
        ROOT / "train.py",
        "csv",
        "--data",
        data,
        "--batch-size",
        4,
        "--epochs",
        2,
        "--max-bad-share",
        share,
        "--out",
        tmp_path / "run",
        *TINY,
    ]
    done = subprocess.run(
        list(map(str, arguments)),
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if share < 1 / 26:
        assert done.returncode != 0
        assert "of 26 train images cannot be used" in done.stderr
        assert any(f"  {path} is" in done.stderr for path in bad)
    else:
        assert done.returncode == 0, done.stderr[-2000:]
        log = read_log(tmp_path / "run")
        assert sorted(event["file"] for event in log if event["event"] == "bad_picture") == sorted(map(str, bad))
        assert log[-1]["bad_pictures"] == {"train": 2, "val": 0, "test": 1}
        assert [done.stdout.count(f"left out from now on: {path}") for path in bad] == [1, 1, 1]


@pytest.mark.slow
def test_two_processes_mix_their_own_images(picture_table, tmp_path):
    """Five images per process, of which each mixes three pairs."""
    run = tmp_path / "run"
    settings = ["csv", "--data", picture_table, "--batch-size", 5, "--steps", 2, "--mixup", 1, "--out", run, *TINY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [*TORCHRUN, ROOT / "train.py", *settings]
    subprocess.run(list(map(str, arguments)), cwd=ROOT, env=environment, check=True, capture_output=True, timeout=120)
    steps = [event for event in read_log(run) if event["event"] == "train"]
    assert len(steps) == 2
    for event in steps:
        assert event["loss"] == pytest.approx(event["loss_pu"] + event["loss_mixup"])
        assert event["loss_mixup"] > 0
    assert read_log(run)[-1]["event"] == "end"


@pytest.mark.slow
def test_ctrl_c_saves_what_two_processes_have(train, picture_table, tmp_path):
    run = tmp_path / "run"
    # a log line is an epoch away: the processes have to agree on stopping before it
    tiny = [*TINY[:-1], 1000]
    settings = ["csv", "--data", picture_table, "--batch-size", 2, "--epochs", 1000, "--out", run, *tiny]
    job = subprocess.Popen(
        list(map(str, [*TORCHRUN, ROOT / "train.py", *settings])),
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 100
        while not (run / "log.jsonl").exists() or len(read_log(run)) < 4:  # start, and a whole epoch
            assert job.poll() is None, job.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        job.send_signal(signal.SIGINT)
        output, _ = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode != 0
    assert f"python train.py --resume {run}" in output
    assert read_log(run)[-1]["event"] == "interrupted"
    step = read_log(run)[-1]["step"]
    assert (run / "checkpoints" / f"step-{step:08d}.pt").is_file()

    # one process alone has 13 steps per epoch, of 2 images each, where the two had 6, of 4
    epoch, within = divmod(step, 6)
    assert train("--resume", run, "--steps", 13 * epoch + 2 * within + 1) == 0
    (resumed,) = [event for event in read_log(run) if event["event"] == "resume"]
    assert (resumed["step"], resumed["steps_per_epoch"]) == (13 * epoch + 2 * within, 13)
    assert "0 images of the epoch are seen twice, none is left out" in resumed["notes"][-1]
    assert [path.name for path in sorted(run.glob("checkpoints/step-*"))][-1] == f"step-{resumed['step'] + 1:08d}.pt"
