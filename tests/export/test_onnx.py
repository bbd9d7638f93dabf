"""ONNX files: what onnxruntime makes of them in a process that has nothing but numpy and Pillow beside it."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pumlc.data import load_splits
from pumlc.engine.recogniser import load_recogniser
from pumlc.engine.trainer import fit
from pumlc.errors import require
from pumlc.export.__main__ import TOLERANCE as PROMISED
from pumlc.export.__main__ import main
from pumlc.export.graph import write_onnx
from pumlc.predict import predict
from pumlc.predict.__main__ import main as predict_main
from tests.engine.runs import tiny_run
from tests.export.exported import FP32, KINDS, NAMES, THRESHOLDS, in_a_fresh_process, probabilities, write_run

TOLERANCE = 2e-3  # of a probability: pixels that a resize rounds the other way

every_kind = pytest.mark.parametrize(
    "kind", ["boost", pytest.param("full", marks=pytest.mark.slow), pytest.param("depthwise", marks=pytest.mark.slow)]
)

REFUSED = ("pumlc", "torch", "torchvision", "timm", "onnx", "onnxscript", "nvidia", "safetensors", "tqdm")
"""What an exported model may be tempted to need."""

CLIENT = """
import numpy, onnxruntime
from PIL import Image, ImageOps
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
rows = []
for path in sys.argv[2:]:
    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    rows.append(session.run(["probabilities"], {"images": numpy.asarray(picture)[None]})[0][0].tolist())
print(json.dumps({"probabilities": rows, "metadata": session.get_modelmeta().custom_metadata_map,
                  "loaded": list(sys.modules)}))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Callable[[str], Path]:
    """Gives ONNX files by kind of run, each beside the weights it was made of."""
    require("onnxruntime")

    @functools.cache
    def file(kind: str) -> Path:
        run = write_run(tmp_path_factory.mktemp("onnx") / kind, kind)
        write_onnx(load_recogniser(run), run / "model.onnx")
        return run / "model.onnx"

    return file


@every_kind
def test_predicts_as_the_model_does(files, kind, picture_table):
    pictures = load_splits("csv", picture_table).test.paths
    expected = predict(load_recogniser(files(kind).parent), pictures, FP32)
    answer = in_a_fresh_process(CLIENT, REFUSED, [str(files(kind)), *map(str, pictures)])
    assert {"onnxruntime", "numpy", "PIL"} <= set(answer["loaded"])
    assert not set(REFUSED) & set(answer["loaded"])
    assert expected.std(0).max() > 0.02  # the pictures are told apart
    assert np.abs(probabilities(answer) - expected).max() <= TOLERANCE

    metadata = answer["metadata"]
    assert json.loads(metadata["class_names"]) == NAMES
    assert json.loads(metadata["thresholds"]) == THRESHOLDS
    assert json.loads(metadata["image_size"]) == 64
    assert metadata["backbone"] == KINDS[kind]["backbone"]


@every_kind
def test_any_number_of_pictures_of_any_size(files, kind):
    session = require("onnxruntime").InferenceSession(str(files(kind)), providers=["CPUExecutionProvider"])
    random = np.random.RandomState(0)
    for shape in ((1, 64, 64, 3), (3, 33, 200, 3), (5, 64, 64, 3)):
        images = random.randint(0, 256, shape).astype(np.uint8)
        together, logits = session.run(["probabilities", "logits"], {"images": images})
        alone = [session.run(["probabilities"], {"images": image[None]})[0][0] for image in images]
        np.testing.assert_allclose(together, alone, atol=1e-5)
        np.testing.assert_allclose(together, 1 / (1 + np.exp(-logits)), atol=1e-6)


@every_kind
def test_graph_is_merged_and_tells_nothing_of_this_machine(files, kind):
    model = require("onnx").load(files(kind))
    assert {node.domain for node in model.graph.node} == {""}
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert str(Path(__file__).parents[2]).encode() not in files(kind).read_bytes()
    named = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    batch = ["batch", len(NAMES)]
    assert named == {"images": ["batch", "height", "width", 3], "probabilities": batch, "logits": batch}


def test_command_line(files, picture_table, capsys, tmp_path):
    out = tmp_path / "shipped.onnx"
    given = str(picture_table / "test_*.jpg")
    command = [str(files("boost").parent), "--format", "onnx", "--out", str(out), "--pictures", given, "--count", "4"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "checked on 4 pictures, as given"
    assert lines[1].startswith("largest difference of a probability: ")
    assert float(lines[1].split()[5].rstrip(",")) <= TOLERANCE
    assert lines[2].startswith(f"wrote {out}, ")
    assert out.read_bytes()[:2000] == files("boost").read_bytes()[:2000]


def test_a_run_of_training(picture_table, tmp_path, capsys):
    run = tmp_path / "run"
    fit(dataclasses.replace(tiny_run(picture_table, run), lr=1e-2))
    pictures = [str(path) for path in load_splits("csv", picture_table).test.paths]
    capsys.readouterr()
    assert main([str(run), "--format", "onnx"]) == 0
    said = f"checked on {len(pictures)} pictures, of the test split that {run} was evaluated on"
    assert said in capsys.readouterr().out.splitlines()

    answer = in_a_fresh_process(CLIENT, REFUSED, [str(run / "model.onnx"), *pictures])
    names = json.loads(answer["metadata"]["class_names"])
    how = ["--json", "--precision", "fp32", "--device", "cpu", "--threads", "1"]
    assert predict_main([str(run), *pictures, *how]) == 0
    rows = json.loads(capsys.readouterr().out)
    expected = np.array([[row["classes"][name] for name in names] for row in rows])
    assert np.ptp(expected, axis=0).max() > 5 * PROMISED  # the pictures are told apart
    assert np.abs(probabilities(answer) - expected).max() <= PROMISED
