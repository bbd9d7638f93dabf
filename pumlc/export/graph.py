"""The graph of an exported model: of plain PyTorch operators alone, for any number of pictures of any size."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from pumlc.engine.recogniser import Recogniser
from pumlc.errors import require
from pumlc.export import metadata
from pumlc.export.network import ExportedNetwork

METADATA = "metadata.json"
"""Name of the extra file in an archive of torch.export that holds the metadata."""

INPUT = "images"
OUTPUTS = ("probabilities", "logits")
SIZES = {0: "batch", 1: "height", 2: "width"}
TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")
"""What tracing notes at each operator: places in the source files of this machine, of no use on another."""
EXAMPLE = (2, 97, 131, 3)
"""A batch to trace with: no size in it is one that could be taken for a constant."""


@torch.no_grad()
def trace(recogniser: Recogniser) -> ExportedProgram:
    """The graph as it is traced, its sizes B, H and W free."""
    sizes = {axis: Dim(name) for axis, name in SIZES.items()}
    example = torch.zeros(EXAMPLE, dtype=torch.uint8)
    return torch.export.export(ExportedNetwork(recogniser), (example,), dynamic_shapes=(sizes,))


def write_program(recogniser: Recogniser, path: Path) -> None:
    """For ``torch.export.load``, in a process that has torch alone; ``extra_files`` holds the metadata."""
    program = trace(recogniser).run_decompositions({})  # blocks such as those of autocast become part of the graph
    for node in program.graph.nodes:
        for key in TRACES:
            node.meta.pop(key, None)
    own = {str(node.target) for node in program.graph.nodes if str(node.target).startswith("pumlc.")}
    if own:
        raise RuntimeError(f"operators of this package are left in the graph: {', '.join(sorted(own))}")
    torch.export.save(program, path, extra_files={METADATA: json.dumps(metadata.of_graph(recogniser))})


def write_onnx(recogniser: Recogniser, path: Path) -> None:
    """For onnxruntime; ``get_modelmeta().custom_metadata_map`` holds the metadata, what is no text in it as JSON."""
    for package in ("onnx", "onnxscript"):
        require(package)
    program = trace(recogniser)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = torch.onnx.export(
            program, dynamo=True, input_names=[INPUT], output_names=OUTPUTS, dynamic_shapes=(SIZES,), verbose=False
        )
    model = converted.model
    for key, value in metadata.of_graph(recogniser).items():
        model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value)
    for node in model.graph:
        node.metadata_props.clear()
    converted.save(path, external_data=False)
