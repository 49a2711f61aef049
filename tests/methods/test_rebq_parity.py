"""RebQ against numbers that the released code gave on a small random ViLT."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from absentia.data.batch import Batch
from absentia.data.schema import Target
from absentia.data.target import TargetCodec
from absentia.methods.base import Parts, Stage
from absentia.methods.rebq import RebQ
from absentia.models.backbone import FusedBackbone
from absentia.models.frozen import FrozenReader
from absentia.models.fused import FusedOutput, FusedTransformer, Prompts, Segment
from absentia.models.vilt import build_vilt

ORACLES = Path(os.environ.get("ABSENTIA_ORACLES", Path(__file__).parents[3] / "shared" / "oracles"))
SCENARIOS = sorted(ORACLES.glob("rebq_*.json"))
NAMES = ("text", "image")
COLUMNS = (("input_ids", "attention_mask", "token_type_ids"), ("pixel_values", "pixel_mask"))
POOLS = {"memory": "memory", "pools.m_text": "text", "pools.m_image": "image"}
SHORT = {"components": "p", "keys": "k", "attention": "a"}
ROUNDING = 2e-7  # gradients are sums of numbers below 1 that may cancel
HIDES = {1: 0, 2: 1, 3: 0, 4: 1}  # type of a row: the modality that it lacks


class Scenario:
    """What the released code was given and what it made of it."""

    def __init__(self, path: Path) -> None:
        self.facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.tensors = load_file(path.with_suffix(".safetensors"))
        self.settings: dict[str, Any] = json.loads(self.facts["model_cfg_json"])
        self.types: list[int] = self.facts["missing_types"]
        self.session: int = self.facts["task_id"]
        self.size = len(self.tensors["main_last_hidden"])
        self.inputs = self.under("inputs/")

    def under(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): t for key, t in self.tensors.items() if key.startswith(prefix)}

    def by_layer(self, prefix: str, suffix: str = "") -> Tensor:
        """(L, ...)"""
        count = sum(key.startswith(prefix) for key in self.tensors)
        layers = [self.tensors.get(f"{prefix}{layer}{suffix}") for layer in range(count)]
        return torch.stack([tensor for tensor in layers if tensor is not None])

    @cached_property
    def augmented(self) -> dict[tuple[int, int], int]:
        """Original and hidden modality to the augmented row."""
        targets = self.facts["rec_gts"]
        return {(g, HIDES[self.types[self.size + j]]): self.size + j for j, g in enumerate(targets)}

    @property
    def per_session(self) -> int:
        return int(self.settings["prompt"]["POOL_SIZE"] / self.settings["NUM_TASKS"])

    @property
    def classes(self) -> int:
        return int(self.settings["NUM_LABELS_PER_TASK"])

    def codec(self, session: int) -> TargetCodec:
        kind = "labels" if self.tensors["labels"].dim() == 2 else "class"
        names = tuple(f"{number:02}" for number in range(self.classes * (session + 1)))
        return TargetCodec(target=Target("y", kind, classes=names), prior=(1 / len(names),) * len(names))

    def batch(self) -> Batch:
        presence = torch.ones(self.size, 2, dtype=torch.bool)
        for row, kind in enumerate(self.types[: self.size]):
            if kind:
                presence[row, HIDES[kind]] = False
        inputs = {
            name: {key: self.inputs[key][: self.size][presence[:, m]] for key in COLUMNS[m]}
            for m, name in enumerate(NAMES)
        }
        labels = self.tensors["labels"]
        target = labels[:, : self.classes * (self.session + 1)] if labels.dim() == 2 else labels
        return Batch(presence=presence, inputs=inputs, index=torch.arange(self.size), target=target)

    def sequence(self, hidden: Tensor, row: int, inserted: int) -> Tensor:
        """The real tokens of a row in our order: text, image, inserted."""
        words = self.inputs["attention_mask"].shape[1]
        memory, hidden = hidden[row, 1 : 1 + inserted], torch.cat([hidden[row, :1], hidden[row, 1 + inserted :]])
        patch = self.facts["vilt_cfg/patch_size"]
        patches = int(self.inputs["pixel_mask"][row, ::patch, ::patch].sum())
        text = hidden[:words][self.inputs["attention_mask"][row].bool()]
        return torch.cat([text, hidden[words : words + 1 + patches], memory])


class Released(FrozenReader):
    """In an absent modality's place the very placeholder that the released code fed for that row."""

    def __init__(self, backbone: FusedBackbone, scenario: Scenario) -> None:
        super().__init__(backbone, blanks={})
        self.scenario = scenario

    def stand_ins(self, rows: Tensor) -> dict[str, Segment]:
        out = {}
        for m, name in enumerate(NAMES):
            theirs = [self.scenario.augmented.get((row, m), row) for row in rows.tolist()]
            given = {key: self.scenario.inputs[key][theirs] for key in COLUMNS[m]}
            out[name] = Segment(*self.backbone.embedder(name)(**given), torch.arange(len(rows)))
        return out


def method_of(scenario: Scenario) -> RebQ:
    """Our method with their weights."""
    facts, prompt = scenario.facts, scenario.settings["prompt"]
    theirs = scenario.under("state_dict/vilt_model.")
    places = len(theirs["embeddings.text_embeddings.position_embeddings.weight"])
    config = {key.removeprefix("vilt_cfg/"): value for key, value in facts.items() if key.startswith("vilt_cfg/")}
    config |= {"model_type": "vilt", "max_position_embeddings": places}

    def backbone(number: int = 0) -> FusedBackbone:
        vilt = build_vilt(config, theirs, cls_id=int(scenario.inputs["input_ids"][0, 0]))
        return FusedBackbone(embedders=vilt.embedders, transformer=vilt.transformer)

    options = {
        "variant": "intended" if facts["reinit"] else "released",
        "components": scenario.per_session,
        "length": prompt["memory"]["LENGTH"],
        "layers": prompt["memory"]["LAYERS"],
        "alpha": prompt["ALPHA"],
        "absent": "placeholder",
        "reads": "first",
    }
    seen = np.ones((1, 2), dtype=np.bool_)
    parts = Parts(names=NAMES, codec=scenario.codec(0), backbone=backbone, blanks={}, seen=seen, options=options)
    method = RebQ(parts=parts)
    for session in range(1, scenario.session + 1):
        method.open_session(scenario.codec(session))
    assert not method.load_state_dict(ours(scenario, "state_dict/"), strict=False).unexpected_keys
    method.reader = Released(method.backbone, scenario)
    return method.train(facts["train"])


def ours(scenario: Scenario, prefix: str) -> dict[str, Tensor]:
    """Their tensors under our names, cut into sessions."""
    out = {}
    for session in range(scenario.session + 1):
        for mine, pool in POOLS.items():
            for name, letter in SHORT.items():
                theirs = scenario.by_layer(f"{prefix}{pool}_prompt_generator.e_{letter}_")
                size = scenario.per_session
                out[f"{mine}.sessions.{session}.{name}"] = theirs[:, session * size : (session + 1) * size]
        own = slice(session * scenario.classes, (session + 1) * scenario.classes)
        for name in ("weight", "bias"):
            out[f"classifier.blocks.{session}.{name}"] = scenario.tensors[f"{prefix}classifier.{name}"][own]
    return out


class Pass:
    """One call of the transformer."""

    def __init__(self, prompts: Prompts | None, output: FusedOutput) -> None:
        self.prompts, self.output = prompts, output

    def row(self, number: int) -> Tensor:
        return self.output.packed[self.output.packing.sample == number]


@contextmanager
def recorded(transformer: FusedTransformer) -> Iterator[list[Pass]]:
    """All calls, each made for all tokens."""
    passes: list[Pass] = []

    def all_rows(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, kwargs | {"rows": "all"}

    def keep(module: Any, args: Any, kwargs: Any, output: FusedOutput) -> None:
        passes.append(Pass(args[2], output))

    handles = (
        transformer.register_forward_pre_hook(all_rows, with_kwargs=True),
        transformer.register_forward_hook(keep, with_kwargs=True),
    )
    yield passes
    for handle in handles:
        handle.remove()


def check_pass(scenario: Scenario, found: Pass, rows: Sequence[int]) -> None:
    """Prompts and hidden states of their `rows`."""
    prompts, inserted, hidden = found.prompts, 0, scenario.tensors["query_last_hidden"]
    if prompts is not None and prompts.inserted is not None:
        expected = scenario.by_layer("memory_prompts/")[:, list(rows)]
        close(prompts.inserted, expected)
        inserted, hidden = expected.shape[2], scenario.tensors["memory_last_hidden"]
    elif prompts is not None:
        hidden = scenario.tensors["main_last_hidden"]
        for kind, part in enumerate((prompts.keys, prompts.values)):
            fetched = [scenario.by_layer(f"{name}_prompts/", f"/{kind}") for name in ("language", "vision")]
            close(part, torch.cat(fetched, dim=2))
    for number, row in enumerate(rows):
        close(found.row(number), scenario.sequence(hidden, row, inserted))


def close(found: Tensor | None, expected: Tensor, atol: float = 1e-5, rtol: float = 1e-4) -> None:
    assert found is not None
    torch.testing.assert_close(found.detach(), expected, atol=atol, rtol=rtol)


@pytest.mark.skipif(not SCENARIOS, reason="no reference tensors here")
@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
class TestParity:
    """Each scenario that is found, whatever its number."""

    def test_answers(self, path: Path) -> None:
        scenario = Scenario(path)
        method, batch = method_of(scenario).eval(), scenario.batch()
        lacking = [row for row, kind in enumerate(scenario.types[: scenario.size]) if kind]
        with recorded(method.backbone.transformer) as passes:
            output = method(batch)
        for found, rows in zip(passes, (range(scenario.size), lacking, range(scenario.size)), strict=True):
            check_pass(scenario, found, rows)
        known = scenario.classes * (scenario.session + 1)
        close(output.scores, scenario.tensors["all_logits"][:, :known])
        for m, name in enumerate(NAMES):
            first = (
                0
                if m == 0
                else scenario.inputs["attention_mask"].shape[1] + scenario.by_layer("memory_prompts/").shape[2]
            )
            absent = [row for row in lacking if HIDES[scenario.types[row]] == m]
            close(output.reconstructed[name], scenario.tensors["memory_last_hidden"][absent, first])

    def test_a_training_step(self, path: Path) -> None:
        scenario = Scenario(path)
        if not scenario.facts["train"]:
            pytest.skip("an evaluation")
        method, batch = method_of(scenario), scenario.batch()
        with recorded(method.backbone.transformer) as passes:
            losses = method.losses(batch, Stage(), torch.Generator())
        lacking = [row for row, kind in enumerate(scenario.types[: scenario.size]) if kind]
        whole = [row for row, kind in enumerate(scenario.types[: scenario.size]) if not kind]
        turns = [[scenario.augmented[row, m] for row in whole] for m in (0, 1)]
        expected = [range(scenario.size), *turns, [*lacking, *turns[0], *turns[1]], range(scenario.size), whole]
        for found, rows in zip(passes, expected, strict=True):
            check_pass(scenario, found, rows)

        close(losses["task"], scenario.tensors["cls_loss"], atol=1e-6, rtol=1e-6)
        alpha = method.options.alpha
        close(losses["reconstruction"] / alpha, scenario.tensors["reconstruction_loss"], atol=1e-6, rtol=1e-6)
        close(sum(losses.values()), scenario.tensors["loss"], atol=1e-6, rtol=1e-6)  # type: ignore[arg-type]
        torch.stack(list(losses.values())).sum().backward()
        self.check_gradients(scenario, method)
        self.check_step(scenario, method)

    def check_gradients(self, scenario: Scenario, method: RebQ) -> None:
        theirs = ours(scenario, "grads/")
        learning = {name: p for name, p in method.named_parameters() if p.requires_grad}
        assert set(learning) == {
            n for n in theirs if f"sessions.{scenario.session}." in n or f"blocks.{scenario.session}." in n
        }
        for name, parameter in learning.items():
            scale = float(theirs[name].abs().max())
            close(parameter.grad, theirs[name], atol=max(1e-4 * scale, ROUNDING), rtol=1e-4)
            dead = scenario.session and not scenario.facts["reinit"] and ".sessions." in name
            assert (scale == 0) == bool(dead), name
        for name in theirs.keys() - learning.keys():
            assert not theirs[name].any(), "theirs gives what is old no gradient either"

    def check_step(self, scenario: Scenario, method: RebQ) -> None:
        before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
        learning = [p for p in method.parameters() if p.requires_grad]
        torch.optim.AdamW(learning, lr=1e-4, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01).step()
        names = {name for name, _ in method.named_parameters()}
        for name, expected in ours(scenario, "params_after_adamw_step/").items():
            now = method.state_dict()[name]
            if name in names:
                close(now, expected, atol=1e-6)  # a hundredth of the step
            else:  # theirs lets what it has learned shrink by its weight decay; ours stands still
                assert torch.equal(now, before[name])
                close(expected, now * (1 - 1e-4 * 0.01), atol=1e-7, rtol=1e-6)
