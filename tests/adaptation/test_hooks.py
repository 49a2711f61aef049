from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from tests.adaptation.zoo import ZOO, adapted, animal, difference, rows, trained
from torch import Tensor, nn

from absentia.adaptation.hooks import shadow_of, twin_of
from absentia.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")


@pytest.mark.parametrize("name", ZOO)
def test_a_twin_shares_every_tensor_and_no_module(name: str) -> None:
    network = animal(name)
    twin = twin_of(network)
    tensors = [*network.parameters(), *network.buffers()]
    assert all(a is b for a, b in zip(tensors, [*twin.parameters(), *twin.buffers()], strict=True))
    assert not set(network.modules()) & set(twin.modules())
    assert len(list(network.modules())) == len(list(twin.modules()))


def test_a_network_that_cannot_be_copied_is_an_error() -> None:
    network = nn.Linear(2, 2)
    network.lock = (i for i in range(3))  # type: ignore[assignment]
    with pytest.raises(UserError, match="modules cannot be copied"):
        twin_of(network)


def test_hooks_of_ones_own_run_in_the_twin_too() -> None:
    network = animal("keywords")
    network.head.register_forward_hook(lambda module, args, output: output * 2)  # type: ignore[union-attr,operator]
    with pytest.raises(UserError, match="has a hook of its own on such a layer"):
        trained(adapted("keywords", network)).merge("a")  # which would come after the shift, not before
    net = trained(adapted("keywords", network, example=None))
    with net.present("a"), torch.no_grad():
        one = net(**rows("keywords"))
        plain: Any = net.merge("a")
        given = {**rows("keywords"), "b": torch.zeros(5, 3, dtype=torch.float64)}
        plain.head._forward_hooks.clear()
        before = plain(**given)
    site = next(s for s in net.bank.sites if s.name == "head")
    values = {name: v[0] for name, v in (net.bank.values_for(site, torch.tensor([[True, False]])) or {}).items()}
    bare = (before - values["shift"]) / (1 + values["scale"])  # hooks run in the order in which they were put on
    assert difference(one, 2 * bare * (1 + values["scale"]) + values["shift"]) < 1e-12


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("masks", [torch.bool, torch.float64])
@pytest.mark.parametrize("aligned", [True, False])
def test_padding_is_as_torchs_nested_tensors_leave_it(norm: bool, masks: torch.dtype, aligned: bool) -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(4) if norm else None).double().eval()
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    twin = twin_of(encoder)
    for module in twin.modules():
        module.register_forward_hook(lambda module, args, output: None)
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    hidden = torch.arange(5) >= torch.tensor([[2], [5], [4]])
    hidden = hidden if aligned else hidden.flip(1)
    padding = hidden if masks == torch.bool else torch.zeros(3, 5).masked_fill(hidden, float("-inf")).double()
    expected = encoder(x, src_key_padding_mask=padding)
    assert difference(expected, twin(x, src_key_padding_mask=padding)) < 1e-12
    assert difference(encoder(x), twin(x)) < 1e-12
    causal = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    assert difference(encoder(x, causal), twin(x, causal)) < 1e-12


@pytest.mark.parametrize(
    ("module", "weights"),
    [
        (nn.Linear(2, 3), {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}),
        (nn.LSTM(2, 3), {"weight_ih_l0": torch.ones(12, 2)}),
        (nn.MultiheadAttention(2, 1), {"in_proj_weight": torch.ones(6, 2), "out_proj.weight": torch.ones(2, 2)}),
    ],
)
def test_a_shadow_computes_with_other_weights_and_leaves_the_module_alone(
    module: nn.Module, weights: dict[str, Tensor]
) -> None:
    state = {k: v.clone() for k, v in module.state_dict().items()}
    shadow = shadow_of(module, weights)
    x = torch.randn(4, 1, 2)
    args = (x, x, x) if isinstance(module, nn.MultiheadAttention) else (x,)
    expected = type(module)(2, *{nn.Linear: (3,), nn.LSTM: (3,)}.get(type(module), (1,)))  # type: ignore[call-overload,call-arg]
    expected.load_state_dict({**state, **weights})
    one, two = shadow(*args), expected(*args)
    one, two = (one[0], two[0]) if isinstance(one, tuple) else (one, two)
    assert torch.allclose(one, two)
    assert all(torch.equal(state[k], v) for k, v in module.state_dict().items())
