"""--resume auto, checkpoints within an epoch, and what the folder of a killed run goes back to."""

from __future__ import annotations

import dataclasses
import errno
import json
import resource
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
import torch

from pumlc.engine import DivergedError, log, resuming
from pumlc.engine.checkpoint import checkpoints, load_checkpoint
from pumlc.engine.command_line import parse
from pumlc.engine.config import Config
from pumlc.engine.distributed import World
from pumlc.engine.kept_weights import KeptWeights
from pumlc.engine.saving import Saving
from pumlc.engine.trainer import Trainer, fit
from pumlc.errors import InputError
from pumlc.nn.pretrained import read_tensors
from tests.engine.runs import events, tiny_run

ALONE = World(torch.device("cpu"))


class Killed(BaseException):
    """What nothing catches, as kill -9."""


@pytest.fixture
def config(picture_table: Path, tmp_path: Path) -> Config:
    return settings(picture_table, tmp_path / "run")


def settings(data: Path, out: Path) -> Config:
    """Three epochs of five steps, a log line every third, a checkpoint every second."""
    return dataclasses.replace(
        tiny_run(data, out),
        image_size=32,
        epochs=3,
        log_every=3,
        checkpoint_steps=2,
        mixup=1.0,
        resume="auto",
    )


def kill_at(monkeypatch, step: int, where: str = "train_step") -> None:
    """Let the next run die in this method of the trainer once it has come to a step."""
    method = getattr(Trainer, where)

    def dying(self, *arguments):
        if self.step >= step:
            monkeypatch.setattr(Trainer, where, method)
            raise Killed
        return method(self, *arguments)

    monkeypatch.setattr(Trainer, where, dying)


def killed_at(monkeypatch, config: Config, step: int, where: str = "train_step") -> None:
    kill_at(monkeypatch, step, where)
    with pytest.raises(Killed):
        fit(config)


def record_images(monkeypatch) -> dict[int, list[int]]:
    """The images of every step of the runs that follow, by the number of steps before it."""
    seen: dict[int, list[int]] = {}
    method = Trainer.train_step

    def recording(self, batch, epoch):
        seen[self.step] = batch.index.tolist()
        return method(self, batch, epoch)

    monkeypatch.setattr(Trainer, "train_step", recording)
    return seen


def losses(config: Config) -> list[tuple[int, float, float, float]]:
    return [(event["step"], event["loss"], event["loss_pu"], event["lr"]) for event in events(config, "train")]


@pytest.fixture(scope="module")
def whole(picture_table: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run that was never killed."""
    config = settings(picture_table, tmp_path_factory.mktemp("whole") / "run")
    assert fit(config) == 0
    return config


def assert_same(config: Config, whole: Config) -> None:
    assert losses(config) == losses(whole)
    assert [step for step, *_ in losses(whole)] == [3, 5, 6, 9, 10, 12, 15]
    ours, theirs = (events(each, "end")[-1] for each in (config, whole))
    for key in ("mAP", "mAP_last", "CF1", "best_on_val", "weights", "step"):
        assert ours[key] == theirs[key], key
    kept, expected = (read_tensors(Path(each.out) / "best.safetensors") for each in (config, whole))
    for name, tensor in expected.items():
        assert torch.equal(kept[name], tensor), name
    evaluated, wanted = ([(e["step"], e["split"], e["mAP"]) for e in events(each, "eval")] for each in (config, whole))
    assert evaluated == wanted


@pytest.mark.parametrize("where", ["train_step", "_evaluate_epoch", "_save", "_finish"])
def test_killed_anywhere_it_ends_as_if_it_had_not_been(where, config, whole, monkeypatch):
    killed_at(monkeypatch, config, 8, where)
    killed_at(monkeypatch, config, 13, where)
    assert fit(config) == 0
    assert_same(config, whole)
    leftover = [path.name for path in Path(config.out).rglob(".*")]
    assert leftover == []


def test_a_damaged_checkpoint_is_passed_over(config, whole, monkeypatch, capsys):
    killed_at(monkeypatch, config, 13)
    before, newest = checkpoints(Path(config.out) / "checkpoints")
    content = newest.read_bytes()
    newest.write_bytes(content[:5000] + bytes([content[5000] ^ 16]) + content[5001:])
    assert fit(config) == 0
    assert f"passed over {newest}, which is damaged" in capsys.readouterr().out
    assert newest.with_name(f"{newest.name}.damaged").exists()
    assert events(config, "resume")[-1]["step"] == int(before.stem[5:])
    assert_same(config, whole)


def test_the_weights_go_back_with_the_checkpoint(config, monkeypatch):
    """The weights of a later epoch than that of the checkpoint are on disk, and would be taken for the best."""
    config = dataclasses.replace(config, checkpoint_steps=None)
    killed_at(monkeypatch, config, 10, "_save")
    run = Path(config.out)
    (kept,) = run.glob("checkpoints/best-00000005.*")
    shutil.copy(kept, run / "checkpoints" / "best-00000010.safetensors")
    (run / "best.safetensors").write_bytes(b"of the run that was killed")
    killed_at(monkeypatch, config, 6)
    assert (run / "best.safetensors").read_bytes() == kept.read_bytes()
    assert not (run / "checkpoints" / "best-00000010.safetensors").exists()


def test_what_was_logged_after_the_checkpoint_is_set_aside(config, whole, monkeypatch):
    killed_at(monkeypatch, config, 10, "_save")
    path = Path(config.out) / "log.jsonl"
    with path.open("a") as file:
        file.write('{"event": "train", "st')  # killed within a line
    assert log.read_events(path.parent)[-1]["event"] == "eval"
    assert fit(config) == 0
    lost = (path.parent / "log.lost.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lost[:-1]] == [9, 10, 10]
    assert lost[-1] == '{"event": "train", "st'
    assert_same(config, whole)


def test_nothing_is_left_of_a_run_without_a_checkpoint(config, whole, monkeypatch):
    killed_at(monkeypatch, config, 1)
    assert not checkpoints(Path(config.out) / "checkpoints")
    (Path(config.out) / "checkpoints" / ".step-00000002.pt.writing").write_bytes(b"half")
    assert fit(config) == 0
    assert [event["event"] for event in log.read_events(Path(config.out))].count("start") == 1
    assert_same(config, whole)
    assert not list(Path(config.out).rglob(".*"))


def test_other_settings_are_refused(config):
    config = dataclasses.replace(config, steps=2)
    assert fit(config) == 0
    with pytest.raises(InputError, match=r"--lr cannot change from .* to 1\.0 in a run that is resumed"):
        fit(dataclasses.replace(config, lr=1.0))
    assert fit(dataclasses.replace(config, steps=3, checkpoint_minutes=1.0, keep_checkpoints=1)) == 0
    assert len(checkpoints(Path(config.out) / "checkpoints")) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["train_step", "_evaluate"])
def test_a_signal_saves_and_has_its_own_status(number, where, config, whole, monkeypatch):
    method = getattr(Trainer, where)

    def signalled(self, *arguments, **options):
        if self.step >= 7:
            signal.raise_signal(number)
        return method(self, *arguments, **options)

    config = dataclasses.replace(config, checkpoint_steps=None)
    monkeypatch.setattr(Trainer, where, signalled)
    assert fit(config) == 128 + number
    monkeypatch.setattr(Trainer, where, method)
    at = {"train_step": 8, "_evaluate": 10}[where]
    assert load_checkpoint(Path(config.out) / "checkpoints")[1]["step"] == at
    interrupted = log.read_events(Path(config.out))[-1]
    assert (interrupted["event"], interrupted["step"], interrupted["status"]) == ("interrupted", at, 128 + number)
    assert fit(config) == 0
    assert_same(config, whole)
    assert events(config, "interrupted") == [interrupted]


def test_minutes(config, monkeypatch):
    config = dataclasses.replace(config, checkpoint_steps=None, checkpoint_minutes=1e-6, keep_checkpoints=99)
    assert fit(config) == 0
    assert [int(path.stem[5:]) for path in checkpoints(Path(config.out) / "checkpoints")] == list(range(1, 16))
    none = dataclasses.replace(config, checkpoint_minutes=0.0, out=f"{config.out}-none")
    assert fit(none) == 0
    assert [int(path.stem[5:]) for path in checkpoints(Path(none.out) / "checkpoints")] == [5, 10, 15]


def test_it_is_saved_before_an_evaluation_that_may_take_long(config, whole, monkeypatch):
    config = dataclasses.replace(config, checkpoint_steps=None, checkpoint_minutes=1e-6)
    killed_at(monkeypatch, config, 10, "_evaluate_epoch")
    _, state = load_checkpoint(Path(config.out) / "checkpoints")
    assert (state["step"], state["evaluated"]) == (10, False)
    assert fit(config) == 0
    assert_same(config, whole)


def test_a_bad_loss_is_never_saved(config):
    """The log line that would tell is some steps away."""
    with pytest.raises(DivergedError, match="last checkpoint is missing"):
        fit(dataclasses.replace(config, lr=1e30, log_every=5))
    assert not checkpoints(Path(config.out) / "checkpoints")


@pytest.mark.parametrize("gone", ["checkpoints", "data"])
def test_a_folder_that_vanishes(gone, config, picture_table, tmp_path, monkeypatch):
    data = tmp_path / "data"
    shutil.copytree(picture_table, data)
    config = dataclasses.replace(config, data=str(data))
    step = Trainer.train_step

    def vanish(self, *arguments):
        if self.step == 5:
            if gone == "data":
                data.rename(tmp_path / "elsewhere")
            else:
                (Path(config.out) / "checkpoints").rename(tmp_path / "elsewhere")
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "train_step", vanish)
    with pytest.raises(InputError) as caught:
        fit(config)
    named = data if gone == "data" else Path(config.out) / "checkpoints"
    assert str(named) in str(caught.value)
    folder = tmp_path / "elsewhere" if gone == "checkpoints" else Path(config.out) / "checkpoints"
    assert load_checkpoint(folder)[1]["step"] >= 5


@pytest.fixture
def little_room():
    """A function that limits how many bytes a file may have, as a disk does that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_the_run_and_costs_nothing(config, whole, little_room, monkeypatch):
    killed_at(monkeypatch, config, 9)
    folder = Path(config.out) / "checkpoints"
    little_room(checkpoints(folder)[-1].stat().st_size - 1)
    with pytest.raises(InputError, match=r"step-00000010\.pt could not be written: File too large .* with --resume"):
        fit(config)
    assert load_checkpoint(folder)[1]["step"] == 8
    little_room(resource.RLIM_INFINITY)
    assert fit(config) == 0
    assert_same(config, whole)


def test_a_folder_that_cannot_be_taken_back(config, whole, monkeypatch):
    killed_at(monkeypatch, config, 11)

    def refuse(self, step):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as read_only:
        read_only.setattr(KeptWeights, "go_back", refuse)
        with pytest.raises(InputError, match=rf"{config.out} could not be taken back to the checkpoint: Permission"):
            fit(config)
    assert fit(config) == 0
    assert_same(config, whole)


def test_place_with_another_number_of_processes():
    """26 images, 5 per process."""
    state = {"steps_per_epoch": 5, "global_batch": 5}
    for step, wanted in ((0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 2), (7, 3), (10, 4)):
        assert resuming.place(state | {"step": step}, 2, 10) == wanted, step
    state = {"steps_per_epoch": 2, "global_batch": 10}
    for step, wanted in ((0, 0), (1, 2), (2, 5), (3, 7), (4, 10)):
        assert resuming.place(state | {"step": step}, 5, 5) == wanted, step


def test_auto_needs_a_folder_that_keeps_its_name(monkeypatch):
    with pytest.raises(InputError, match="--resume auto needs a run folder whose name does not change: add --out"):
        parse(["demo", "--resume", "auto"])
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(InputError, match="--max-restarts 3 needs a run folder"):
        parse(["demo"])
    assert parse(["demo", "--out", "here"]).resume is None


def test_torchrun_goes_on_with_its_own_run_alone(config, whole, monkeypatch):
    config = dataclasses.replace(config, resume=None)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this job")
    killed_at(monkeypatch, config, 8)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another job")
    before = sorted((path, path.read_bytes()) for path in Path(config.out).rglob("*") if path.is_file())
    with pytest.raises(InputError, match="holds a run already"):
        fit(config)
    assert sorted((path, path.read_bytes()) for path in Path(config.out).rglob("*") if path.is_file()) == before
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this job")
    assert fit(config) == 0
    assert_same(config, whole)


def test_torchrun_without_a_name_of_its_job(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert log.torchrun_job() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    ours = log.torchrun_job()
    assert ours == log.torchrun_job() != "none"
    monkeypatch.setattr(log.os, "getppid", lambda: 1)
    assert log.torchrun_job() != ours


@pytest.mark.parametrize("where", ["save", "_drop_all_but"])
def test_killed_while_it_takes_another_number(where, config, monkeypatch):
    """The checkpoints of the higher number go when the one of the lower is there, and not before."""
    config = dataclasses.replace(config, checkpoint_steps=1)
    killed_at(monkeypatch, config, 12)
    larger = dataclasses.replace(config, batch_size=10, resume=config.out, checkpoint_steps=None, log_every=1)
    method = getattr(Saving, where)

    def dying(self, *arguments):
        if where == "save":
            method(self, *arguments)
        raise Killed

    monkeypatch.setattr(Saving, where, dying)
    with pytest.raises(Killed):
        fit(larger)
    assert len(checkpoints(Path(config.out) / "checkpoints")) == 3
    monkeypatch.setattr(Saving, where, method)
    assert fit(larger) == 0
    again = [event["step"] for event in events(config, "train") if event["step"] > 5]
    assert again[-1] == 6
    assert events(config, "end")[-1]["step"] == 6


@pytest.mark.parametrize(
    ("last", "goes_on_after", "twice"),
    [(12, 5, 0), (11, 4, 5), (14, 5, 10)],
)
def test_more_images_per_step(last, goes_on_after, twice, config, monkeypatch, capsys):
    """As twice as many processes would have it: 2 steps of 10 images in each epoch, where 5 of 5 were."""
    config = dataclasses.replace(config, checkpoint_steps=1)
    seen = record_images(monkeypatch)
    killed_at(monkeypatch, config, last)
    of_the_epoch = Counter(image for step, images in seen.items() if step >= 10 for image in images)
    seen.clear()
    run = Path(config.out)
    assert fit(dataclasses.replace(config, resume=str(run), batch_size=10, checkpoint_steps=None, log_every=1)) == 0
    assert f"{twice} images of the epoch are seen twice, none is left out" in capsys.readouterr().out
    of_the_epoch.update(image for images in seen.values() for image in images)
    assert sorted(of_the_epoch.values()) == [1] * (20 - twice) + [2] * twice
    after = log.read_events(run)
    after = after[[event["event"] for event in after].index("resume") :]
    assert after[0]["step"] == goes_on_after
    assert [event["step"] for event in after if event["event"] == "train"] == list(range(goes_on_after + 1, 7))
    assert [event["epoch"] for event in after if event["event"] == "eval" and event["split"] == "val"] == [3]
    # nothing under a number of before, which would be taken for the newest
    assert [path.name for path in checkpoints(run / "checkpoints")][-1] == "step-00000006.pt"
    assert all(int(path.stem[5:]) <= 6 for path in run.glob("checkpoints/best-*"))


def test_fewer_images_per_step(config, monkeypatch):
    """5 of 5 images, where 2 of 10 were."""
    large = dataclasses.replace(config, batch_size=10, checkpoint_steps=1)
    killed_at(monkeypatch, large, 3)
    assert fit(dataclasses.replace(config, resume=config.out, log_every=1)) == 0
    (resumed,) = events(config, "resume")
    assert (resumed["step"], resumed["steps_per_epoch"]) == (7, 5)
    assert [event["step"] for event in events(config, "train") if event["step"] > 7] == list(range(8, 16))


def test_auto_with_the_words_of_the_published_code():
    words = "there --dataset=VOC2007 --b=5 --out here"
    for resume in (["--resume", "auto"], ["--resume=auto"]):
        assert parse([*words.split(), *resume]).resume == "auto"
