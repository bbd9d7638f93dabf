"""Modules: parameters, initialisation and state; their forward passes call :mod:`pumlc.ops`."""

from pumlc.nn.pu_loss import PULoss

__all__ = ["PULoss"]
