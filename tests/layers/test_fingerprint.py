from __future__ import annotations

import pytest
import torch
from torch import nn

from absentia.layers import fingerprint as room
from absentia.layers.fingerprint import Fingerprint, fingerprint
from absentia.layers.modes import evaluating


def test_it_is_read_again_where_something_was_written_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    module, kept, read = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), Fingerprint(), list[nn.Module]()
    monkeypatch.setattr(room, "fingerprint", lambda m: (read.append(m), fingerprint(m))[1])
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)

    def step() -> None:
        module(torch.ones(4, 3)).sum().backward()
        optimizer.step()

    other = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()
    changes = [step, lambda: module.load_state_dict(other), lambda: module.load_state_dict(other, assign=True)]
    for number, change in enumerate([lambda: None, *changes]):
        change()
        assert kept.of(module) == kept.of(module) == fingerprint(module)
        assert len(read) == number + 1


def test_a_module_that_learns_evaluates_within_and_learns_on() -> None:
    module = nn.Sequential(nn.Dropout())
    for learning in (True, False):
        module.train(learning)
        with evaluating(module):
            assert not module.training and not module[0].training
        assert module.training == module[0].training == learning
    module.train()
    with pytest.raises(ValueError), evaluating(module):
        raise ValueError
    assert module.training
