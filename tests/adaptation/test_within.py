from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from absentia.adaptation.forms import RowsOf
from absentia.adaptation.hooks import shadow_of
from absentia.adaptation.within import run_within

IDS = torch.tensor([1, 0, 2, 1, 0])


def others(module: nn.Module, count: int = 3) -> list[nn.Module]:
    names = [name for name, _ in module.named_parameters()]
    return [shadow_of(module, {n: torch.randn_like(module.get_parameter(n)) for n in names}) for _ in range(count)]


def parts(output: Any) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else [t for one in output if one is not None for t in parts(one)]


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("masks", ["none", "one for all", "one per row", "padding"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("options", [{}, {"kdim": 3, "vdim": 5}, {"add_bias_kv": True, "add_zero_attn": True}])
def test_attention_of_mixed_rows_is_that_of_each_row(
    options: dict[str, Any], batch_first: bool, masks: str, average: bool, weights: bool
) -> None:
    module = nn.MultiheadAttention(4, 2, batch_first=batch_first, **options).double().eval()
    shadows = others(module)
    axis = 0 if batch_first else 1
    q, k, v = (
        torch.randn(5, n, d).double() for n, d in ((3, 4), (6, options.get("kdim", 4)), (6, options.get("vdim", 4)))
    )
    q, k, v = (t if batch_first else t.transpose(0, 1) for t in (q, k, v))
    wide = {"none": None, "one for all": torch.rand(3, 6) > 0.7, "one per row": torch.rand(10, 3, 6) > 0.7}.get(masks)
    if wide is not None:
        wide[..., 0] = False
    padding = torch.arange(6) > torch.arange(5)[:, None] if masks == "padding" else None
    given = {"need_weights": weights, "average_attn_weights": average, "attn_mask": wide, "key_padding_mask": padding}
    together = run_within(module, shadows, RowsOf(axis, IDS), (q, k), {"value": v, **given})
    for row, number in enumerate(IDS.tolist()):
        one = [t.narrow(axis, row, 1) for t in (q, k, v)]
        mask = wide[2 * row : 2 * row + 2] if wide is not None and wide.ndim == 3 else wide
        hidden = None if padding is None else padding[row : row + 1]
        alone = shadows[number](*one, **{**given, "attn_mask": mask, "key_padding_mask": hidden})
        found = [together[0].narrow(axis, row, 1), *([together[1][row : row + 1]] if weights else [])]
        assert (together[1] is None) == (not weights)
        assert all(torch.allclose(a, b) for a, b in zip(found, parts(alone), strict=True))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("hx", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}, {"bias": False}]
)
def test_recurrent_layers_on_mixed_rows_are_those_of_each_row(
    options: dict[str, Any], hx: bool, kind: type[nn.RNNBase]
) -> None:
    module = kind(3, 4, **options).double()
    shadows = others(module)
    axis = 0 if module.batch_first else 1
    x = torch.randn(5, 6, 3).double() if module.batch_first else torch.randn(6, 5, 3).double()
    layers = module.num_layers * (1 + module.bidirectional)
    h = torch.randn(layers, 5, 4).double()
    start: Any = ((h, h * 2) if kind is nn.LSTM else h) if hx else None
    together = parts(run_within(module, shadows, RowsOf(axis, IDS), (x,), {"hx": start} if hx else {}))
    for row, number in enumerate(IDS.tolist()):
        mine: Any = None
        if hx:
            mine = tuple(t[:, row : row + 1] for t in start) if kind is nn.LSTM else start[:, row : row + 1]
        alone = parts(shadows[number](x.narrow(axis, row, 1), mine))
        found = [together[0].narrow(axis, row, 1), *(t[:, row : row + 1] for t in together[1:])]
        assert all(torch.allclose(a, b) for a, b in zip(found, alone, strict=True))
