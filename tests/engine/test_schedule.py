"""Constant rates and steps; the one-cycle schedule against the one in torch, and where that one fails."""

from __future__ import annotations

import pytest
import torch

from pumlc.engine.schedule import Constant, OneCycle, StepDecay


@pytest.mark.parametrize(("total", "pct_start"), [(50, 0.2), (37, 0.3), (7, 0.9)])
def test_equals_torch(total, pct_start):
    ours = OneCycle(2e-3, total, pct_start)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=total, pct_start=pct_start)
    for step in range(total):
        lr, beta1 = ours(step)
        group = optimizer.param_groups[0]
        assert lr == pytest.approx(group["lr"], rel=1e-9)
        assert beta1 == pytest.approx(group["betas"][0], rel=1e-9)
        optimizer.step()
        if step < total - 1:
            theirs.step()


def test_values_by_hand():
    schedule = OneCycle(lr=1.0, total_steps=11, pct_start=3 / 11)  # peak at step 2, end at step 10
    assert schedule(0) == pytest.approx((1 / 25, 0.95))
    assert schedule(1) == pytest.approx(((1 + 1 / 25) / 2, 0.90))
    assert schedule(2) == pytest.approx((1.0, 0.85))
    assert schedule(10) == pytest.approx((1 / 25 / 1e4, 0.95))


@pytest.mark.parametrize("total", [1, 2, 3, 4, 5, 6])
def test_any_number_of_steps(total):
    schedule = OneCycle(lr=1.0, total_steps=total, pct_start=0.2)  # torch divides by zero at 5
    rates = [schedule(step)[0] for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates == sorted(rates, reverse=True) or total == 6


def test_the_rate_of_a_group_with_a_factor():
    head, rest = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.ones(3))
    adam = torch.optim.Adam([{"params": [rest]}, {"params": [head], "lr_factor": 10.0}])
    assert OneCycle(1.0, 11, 3 / 11).apply(adam, 2) == 1.0
    assert [(group["lr"], group["betas"]) for group in adam.param_groups] == [
        (1.0, (0.85, 0.999)),
        (10.0, (0.85, 0.999)),
    ]
    sgd = torch.optim.SGD([rest], momentum=0.9)
    for schedule in (OneCycle(1.0, 11, 3 / 11), Constant(1.0)):
        schedule.apply(sgd, 2)
        assert (sgd.param_groups[0]["lr"], sgd.param_groups[0]["momentum"]) == (1.0, 0.9)
    assert {Constant(0.5).apply(sgd, step) for step in range(9)} == {0.5}


def test_step_decay_equals_torch():
    """110 epochs of 3 steps."""
    ours = StepDecay(0.1, 330)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [90, 180, 240])
    for step in range(330):
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        theirs.step()
    optimizer.param_groups[0]["lr_factor"] = 10
    assert ours.apply(optimizer, 180) == pytest.approx(1e-3)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-2)
