"""Archives of torch.export, in a process that has torch and not this package."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from pumlc.data import load_splits
from pumlc.engine.recogniser import load_recogniser
from pumlc.export.graph import METADATA, write_program
from pumlc.predict import predict
from tests.export.exported import FP32, NAMES, THRESHOLDS, in_a_fresh_process, probabilities, write_run

TOLERANCE = 1e-5  # of a probability: the resize is the very one of evaluation

REFUSED = ("pumlc", "timm", "safetensors")

CLIENT = """
import numpy, torch
from PIL import Image
extra = {"metadata.json": ""}
module = torch.export.load(sys.argv[1], extra_files=extra).module()
squares, rows = [], []
for path in sys.argv[2:]:
    picture = Image.open(path).convert("RGB")
    rows.append(module(torch.from_numpy(numpy.array(picture))[None])[0][0].tolist())
    squares.append(numpy.array(picture.resize((64, 64), Image.Resampling.BICUBIC)))
together = module(torch.from_numpy(numpy.stack(squares)))[0]
print(json.dumps({"probabilities": rows, "together": together.tolist(), "metadata": json.loads(extra["metadata.json"]),
                  "loaded": list(sys.modules)}))
"""


@pytest.mark.parametrize("kind", ["linear", pytest.param("full", marks=pytest.mark.slow)])
def test_predicts_as_the_model_does(kind, tmp_path, picture_table):
    run = write_run(tmp_path / kind, kind)
    file = tmp_path / "model.pt2"
    write_program(load_recogniser(run), file)
    pictures = load_splits("csv", picture_table).test.paths
    expected = predict(load_recogniser(run), pictures, FP32)
    answer = in_a_fresh_process(CLIENT, REFUSED, [str(file), *map(str, pictures)])
    assert not set(REFUSED) & set(answer["loaded"])
    assert np.abs(probabilities(answer) - expected).max() <= TOLERANCE
    # Pillow's resize before, of a batch: pixels may be rounded the other way
    assert np.abs(np.array(answer["together"]) - expected).max() <= 2e-3
    assert answer["metadata"]["class_names"] == NAMES
    assert answer["metadata"]["thresholds"] == THRESHOLDS

    place = str(Path(__file__).parents[2]).encode()
    with zipfile.ZipFile(file) as archive:
        assert any(name.endswith(METADATA) for name in archive.namelist())
        assert not any(place in archive.read(name) for name in archive.namelist())
