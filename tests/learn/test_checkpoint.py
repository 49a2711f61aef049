from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from absentia.errors import UserError
from absentia.learn import folder as folder_module
from absentia.learn.checkpoint import Position, load_checkpoint, restore_optimizer, save_checkpoint
from absentia.learn.folder import RunFolder, load_tensors, save_tensors

PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK")


def trained(seed: int = 0, steps: int = 3) -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def step(model: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()


def saved(path: Path, position: Position | None = None, run: str = "a run") -> tuple[nn.Linear, torch.optim.Optimizer]:
    model, optimizer = trained()
    best = {key: value + 1 for key, value in model.state_dict().items()}
    save_checkpoint(path, position or Position(), model=model.state_dict(), best=best, optimizer=optimizer, run=run)
    return model, optimizer


def test_everything_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    position = Position(stage=1, step=7, best=1 / 3, waited=2, metrics_lines=4, seconds=0.1, notes=["é"])
    model, optimizer = saved(path, position)
    found, parts = load_checkpoint(path, run="a run")
    assert found == position
    assert all(torch.equal(parts["model"][key], value) for key, value in model.state_dict().items())
    assert all(torch.equal(parts["best"][key], value + 1) for key, value in model.state_dict().items())
    other, fresh = trained(seed=1, steps=0)
    other.load_state_dict(parts["model"])
    restore_optimizer(fresh, parts["optimizer"])
    for _ in range(3):
        step(model, optimizer)
        step(other, fresh)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_an_optimizer_that_has_not_stepped_comes_back(tmp_path: Path) -> None:
    model, optimizer = trained(steps=0)
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, Position(), model=model.state_dict(), best={}, optimizer=optimizer, run="")
    _, parts = load_checkpoint(path, run="")
    restore_optimizer(optimizer, parts["optimizer"])
    assert parts["best"] == {} and optimizer.state_dict()["state"] == {}


def test_another_runs_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    saved(path)
    with pytest.raises(UserError, match="other settings"):
        load_checkpoint(path, run="another run")


@pytest.mark.parametrize("cut", [0, 1, 8, 100, -1])
def test_a_cut_checkpoint_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "checkpoint.safetensors"
    saved(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"checkpoint\.safetensors is broken"):
        load_checkpoint(path, run="a run")


def test_the_next_stage_keeps_what_the_whole_training_counts() -> None:
    position = Position(stage=2, step=9, best=0.5, waited=3, metrics_lines=8, seconds=4.0, notes=["n"])
    assert position.next_stage() == Position(stage=3, metrics_lines=8, seconds=4.0, notes=["n"])


# --- files of a run


def broken_disk(*args: Any, **more: Any) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def full_disk(tensors: Any, path: Path, **more: Any) -> None:
    path.write_bytes(b"half")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("failure", [broken_disk, full_disk])
def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Callable[..., None]
) -> None:
    path = tmp_path / "weights.safetensors"
    save_tensors(path, {"x": torch.ones(2)}, {})
    monkeypatch.setattr(folder_module, "save_file", failure)
    with pytest.raises(UserError, match=r"weights\.safetensors cannot be written.*No space left"):
        save_tensors(path, {"x": torch.zeros(2)}, {})
    assert torch.equal(load_tensors(path)[0]["x"], torch.ones(2))
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"empty": torch.zeros(0, 3), "scalar": torch.tensor(2.0)},
        {"whole": torch.arange(4), "bits": torch.ones(2).bool()},
        {"turned": torch.arange(6.0).view(2, 3).T, "half": torch.ones(3, dtype=torch.bfloat16)},
        {"odd": torch.tensor([float("nan"), float("inf"), -0.0])},
    ],
)
def test_tensors_of_any_form_come_back(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    save_tensors(tmp_path / "x", tensors, {"about": ["anything", None, 1.5]})
    found, about = load_tensors(tmp_path / "x")
    assert about["about"] == ["anything", None, 1.5]
    assert found.keys() == tensors.keys()
    for key, value in tensors.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key].nan_to_num(), value.nan_to_num())


def test_no_file_is_a_pickle(tmp_path: Path) -> None:
    saved(tmp_path / "checkpoint.safetensors")
    content = (tmp_path / "checkpoint.safetensors").read_bytes()
    assert not content.startswith(PICKLES)
    length = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + length])["__metadata__"]


def test_a_run_does_not_begin_where_one_is(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.create(resume=False)
    run.create(resume=False)
    run.write_yaml(run.config, {"seed": 1})
    with pytest.raises(UserError, match="--resume"):
        run.create(resume=False)
    run.create(resume=True)


def test_a_run_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        RunFolder(tmp_path / "file").create(resume=False)
    with pytest.raises(UserError, match="cannot be made"):
        RunFolder(tmp_path / "file" / "run").create(resume=False)


def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / ".weights.safetensors.4711").write_bytes(b"half")
    (tmp_path / ".keep").write_text("mine")
    run.create(resume=True)
    assert [file.name for file in tmp_path.iterdir()] == [".keep"]


@pytest.mark.parametrize("text", ["[]", "{", "\ud800", ""])
def test_broken_json_is_one_sentence(tmp_path: Path, text: str) -> None:
    run = RunFolder(tmp_path)
    run.schema.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match=r"schema\.json"):
        run.read_json(run.schema)
    with pytest.raises(UserError, match="not a finished run"):
        run.read_json(run.report)


def test_json_keeps_every_digit(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    content = {"x": [1 / 3, 1e-300, 0.1 + 0.2], "é": "ü"}
    run.write_json(run.schema, content)
    assert run.read_json(run.schema) == content
