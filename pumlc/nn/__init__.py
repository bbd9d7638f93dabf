"""Modules: parameters, initialisation and state; their forward passes call :mod:`pumlc.ops`."""

from pumlc.nn.conversion import Conversion, convert_local_global, fuse_local_global
from pumlc.nn.gated_graph import GatedGraphNetwork, co_occurrence
from pumlc.nn.inference_form import inference_form
from pumlc.nn.local_global import LocalGlobalConv2d
from pumlc.nn.pu_loss import PULoss
from pumlc.nn.recogniser import PUMLC
from pumlc.nn.semantic_decoupling import SemanticDecoupling

__all__ = [
    "PUMLC",
    "Conversion",
    "GatedGraphNetwork",
    "LocalGlobalConv2d",
    "PULoss",
    "SemanticDecoupling",
    "co_occurrence",
    "convert_local_global",
    "fuse_local_global",
    "inference_form",
]
