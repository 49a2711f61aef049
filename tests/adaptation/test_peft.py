"""A PEFT model of a copy answers one pattern; the others keep their adapters."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.adaptation.halves import TEST, adapted, batches

peft: Any = pytest.importorskip("peft", reason="needs peft")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_peft_model_answers_its_pattern_and_no_other() -> None:
    net, inputs = adapted(), batches(TEST)[0][0]
    config = peft.LoraConfig(r=2, target_modules=["head"], init_lora_weights=False)
    plugged = peft.get_peft_model(copy.deepcopy(net.network), config).eval()
    before = net(left=None, right=inputs["right"])
    net.use("left", plugged)
    answered = net(left=inputs["left"], right=None)
    assert torch.equal(answered, plugged(inputs["left"], torch.zeros_like(inputs["right"])))
    assert not torch.equal(answered, net.base(left=inputs["left"], right=None))
    assert torch.equal(net(left=None, right=inputs["right"]), before)
    rows = torch.tensor([[True, False], [False, True]]).repeat(20, 1)
    with net.present(rows):
        mixed = net(**inputs)
    torch.testing.assert_close(mixed[::2], answered[::2])
    torch.testing.assert_close(mixed[1::2], before[1::2])
