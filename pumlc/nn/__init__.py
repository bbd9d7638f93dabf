"""Modules: parameters, initialisation and state; their forward passes call :mod:`pumlc.ops`."""

from pumlc.nn.conversion import Conversion, convert_local_global, fuse_local_global
from pumlc.nn.local_global import LocalGlobalConv2d
from pumlc.nn.pu_loss import PULoss

__all__ = ["Conversion", "LocalGlobalConv2d", "PULoss", "convert_local_global", "fuse_local_global"]
