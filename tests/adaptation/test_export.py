"""A pattern as an ONNX file: what is present goes in, the same answers come out, for any number of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.adaptation.halves import TEST, adapted, batches

from absentia.errors import UserError

onnxruntime: Any = pytest.importorskip("onnxruntime", reason="needs the extra absentia[export]")
pytest.importorskip("onnxscript", reason="needs the extra absentia[export]")


def test_the_file_takes_what_is_present_and_answers_as_the_adapted_network(tmp_path: Path) -> None:
    net, inputs = adapted(filler={"right": 0.5}), batches(TEST)[0][0]
    with torch.no_grad():
        for parameter in net.adapters():
            parameter.normal_(0, 0.3)
    path = net.export(tmp_path / "left.onnx", {"left"}, inputs)
    session = onnxruntime.InferenceSession(str(path))
    assert [one.name for one in session.get_inputs()] == ["left"]
    for size in (1, 7):
        rows = inputs["left"][:size]
        with torch.no_grad():
            expected = net(left=rows, right=None).numpy()
        np.testing.assert_allclose(session.run(None, {"left": rows.numpy()})[0], expected, atol=1e-5)


def test_an_example_without_what_is_present_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="example lacks"):
        adapted().export(tmp_path / "left.onnx", {"left"}, {"right": torch.ones(3, 6)})
    with pytest.raises(UserError, match="as a mapping of arguments by name, not a tuple"):
        adapted().export(tmp_path / "left.onnx", {"left"}, (torch.ones(3, 6),))  # type: ignore[arg-type]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        adapted().export(tmp_path / "nowhere/left.onnx", {"left"}, {"left": torch.ones(3, 6)})
