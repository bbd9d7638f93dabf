"""The long check: its steps, their budgets and ends, and the table it closes with; no GPU is needed for that."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench import check_gpu, steps
from bench.bars import read_rows
from bench.check_gpu import all_steps, missing_package, report, sanitizer_step
from bench.steps import Outcome, Step, run_step

ENVIRONMENT = dict(os.environ)
MOST_SECONDS = 480


def python(program: str, seconds: float = 30, **options) -> Step:
    return Step("a step", (sys.executable, "-c", program), seconds, ENVIRONMENT, **options)


@pytest.fixture
def steps_by_name() -> dict[str, Step]:
    return {step.name: step for step in all_steps(ENVIRONMENT)}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu_is_one_line_and_status_2(capsys):
    assert check_gpu.main([]) == 2
    assert capsys.readouterr().out.count("\n") == 1


def test_a_step_that_passes(tmp_path, capsys):
    outcome = run_step(python("print('its output')"), tmp_path)
    assert (outcome.verdict, outcome.reason) == ("passed", "")
    assert "its output" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("excuses", "verdict", "reason"),
    [((), "failed", "status 3"), (("no such text",), "failed", "status 3"), (("no luck",), "skipped", "no luck")],
)
def test_a_step_that_fails(tmp_path, excuses, verdict, reason):
    outcome = run_step(python("print('there is no luck here'); raise SystemExit(3)", excuses=excuses), tmp_path)
    assert (outcome.verdict, outcome.reason) == (verdict, reason)


def test_a_step_over_its_budget_is_ended_with_its_children(tmp_path):
    child = "import time; time.sleep(60)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    start = time.perf_counter()
    outcome = run_step(python(program, seconds=0.5), tmp_path, patience=2.0)
    assert (outcome.verdict, outcome.reason, outcome.budget) == ("failed", "not done after its 1 s", 1.0)
    assert time.perf_counter() - start < 30  # the child held the output open


def test_a_step_that_cannot_run_is_skipped_with_the_reason(tmp_path, capsys):
    step = Step("memcheck", ("/no/such/tool",), 30, {}, missing="no tool")
    assert run_step(step, tmp_path).verdict == "skipped"
    assert "memcheck: skipped (no tool)" in capsys.readouterr().out


def test_budgets_are_kept_together(steps_by_name):
    assert sum(step.seconds for step in steps_by_name.values()) <= MOST_SECONDS


def test_every_module_and_file_that_a_step_runs_is_there(steps_by_name):
    modules = [step.command[step.command.index("-m") + 1] for step in steps_by_name.values() if "-m" in step.command]
    assert {"bench", "bench.ceilings", "bench.train_step", "bench.data", "pytest"} <= set(modules)
    assert all(importlib.util.find_spec(module) for module in modules)
    paths = [part for step in steps_by_name.values() for part in step.command if part.startswith("tests/")]
    assert paths
    assert all((check_gpu.ROOT / path).exists() for path in paths)


def test_missing_tools_are_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("CUDA_HOME", "/no/cuda")
    for step in (sanitizer_step("memcheck", ENVIRONMENT), check_gpu.ncu_step(ENVIRONMENT)):
        assert "is neither on the PATH nor in /no/cuda/bin" in step.missing


def test_tools_are_found_in_cuda_home(monkeypatch, tmp_path):
    for name in ("compute-sanitizer", "ncu"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    step = sanitizer_step("initcheck", ENVIRONMENT)
    assert step.missing is None
    assert step.command[:3] == (str(tmp_path / "bin" / "compute-sanitizer"), "--tool", "initcheck")
    assert "--kernel-name" not in step.command
    assert "--kernel-name" in sanitizer_step("racecheck", ENVIRONMENT).command
    assert {sanitizer_step(tool, ENVIRONMENT).name for tool in check_gpu.SANITIZED} == set(check_gpu.SANITIZER_SECONDS)
    assert step.environment["PYTORCH_NO_CUDA_MEMORY_CACHING"] == "1"
    assert check_gpu.ncu_step(ENVIRONMENT).missing is None


def test_missing_packages_are_named():
    assert missing_package(("torch",)) is None
    assert missing_package(("torch", "no_such_thing", "no.such.thing")) == "not installed: no_such_thing, no.such.thing"


@pytest.mark.parametrize(("tests", "cases"), sorted(set(check_gpu.SANITIZED.values())))
def test_sanitized_cases_exist(tests, cases):
    """Names of cases and tests may change: the expression must go on choosing some, of each dtype that it names."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", tests, "-k", cases]
    run = subprocess.run(command, cwd=check_gpu.ROOT, capture_output=True, text=True)
    chosen = [line for line in run.stdout.splitlines() if "::" in line]
    assert 20 <= len(chosen) <= 80
    assert all("[cuda" in name for name in chosen)
    for dtype in ("float32", "bfloat16"):
        assert any(dtype in name for name in chosen)


def test_report_has_steps_and_bars():
    outcomes = [Outcome("build", "passed", "", 12.0, 70.0), Outcome("ncu", "skipped", "no ncu", 0.0, 15.0)]
    row = {
        "device": "NVIDIA H200",
        "op": "pu_loss",
        "shape": "256x80",
        "dtype": "float32",
        "passes": "forward+backward",
        "provider": "pumlc",
        "microseconds": 6.0,
    }
    text = report(outcomes, [row], "NVIDIA H200")
    assert "check-gpu, 12 s" in text
    assert any(line.split() == ["ncu", "0", "of", "15", "s", "skipped", "no", "ncu"] for line in text.splitlines())
    assert any(line.endswith("6.0 us    missed") for line in text.splitlines())
    assert "H100" not in text
    assert "no bars are set for this GPU" in report(outcomes, [], "NVIDIA L4")


@pytest.mark.parametrize(("verdict", "status", "ran"), [("passed", 0, 2), ("failed", 1, 1)])
def test_whole_check(monkeypatch, tmp_path, capsys, verdict, status, ran):
    """As on a GPU, with two steps in place of the real ones."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA H200")
    monkeypatch.setattr(check_gpu, "results_path", lambda device: tmp_path / "results.jsonl")
    monkeypatch.setattr(
        check_gpu, "all_steps", lambda environment: [Step(name, (), 1, environment) for name in ("build", "tests")]
    )
    monkeypatch.setattr(steps, "_run", lambda step, folder, budget: (verdict, ""))
    assert check_gpu.main([]) == status
    (row,) = read_rows(tmp_path / "results.jsonl")
    assert row["benchmark"] == "check_gpu"
    assert [step["verdict"] for step in row["steps"]] == [verdict] * ran
    output = capsys.readouterr().out
    assert "NVIDIA H200, compute capability 9.0" in output
    assert "not measured" in output


def test_the_profiled_program_is_python():
    compile(check_gpu.PROFILED, str(Path(check_gpu.__file__)), "exec")
