from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from absentia.adaptation.forms import Affine, Form, LowRank, Made, RowsOf
from absentia.adaptation.hooks import shadow_of
from absentia.adaptation.site_types import Place
from absentia.adaptation.sites import Filter, Site, find_sites

MODULES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(3, 4), (6, 5, 3)),
    "linear without bias": (nn.Linear(3, 4, bias=False), (6, 3)),
    "conv1d": (nn.Conv1d(3, 4, 3, padding=1), (6, 3, 5)),
    "conv2d, dilated": (nn.Conv2d(3, 4, 3, dilation=2, stride=2, padding=2, padding_mode="reflect"), (6, 3, 7, 6)),
    "conv2d, same": (nn.Conv2d(3, 4, (1, 3), padding="same"), (6, 3, 4, 4)),
    "conv3d": (nn.Conv3d(2, 3, 2), (6, 2, 3, 3, 3)),
    "conv, groups": (nn.Conv1d(4, 6, 2, groups=2), (6, 4, 5)),
    "transposed": (nn.ConvTranspose2d(4, 6, 2, groups=2, bias=False), (6, 4, 2, 2)),
    "layer norm": (nn.LayerNorm([4, 3], elementwise_affine=False), (6, 4, 3)),
    "rms norm": (nn.RMSNorm(3), (6, 3)),
    "batch norm": (nn.BatchNorm2d(3, affine=False), (6, 3, 2, 2)),
    "group norm": (nn.GroupNorm(2, 4, affine=False), (6, 4, 2)),
}
FORMS: dict[str, Form] = {
    "scale-shift": Affine(),
    "scale": Affine(shift=False),
    "shift": Affine(scale=False),
    "low-rank": LowRank(rank=2, alpha=3.0),
    "full": LowRank(rank=0, bias=True),
}


def site_of(module: str) -> Site:
    return find_sites(nn.Sequential(MODULES[module][0], nn.Linear(1, 1)).double(), Filter())[0][0]


PAIRS = [(module, form) for module in MODULES for form in FORMS if FORMS[form].shapes(site_of(module))]


def case(module: str, form: str, sets: int) -> tuple[nn.Module, Tensor, Site, Form, dict[str, Tensor]]:
    torch.manual_seed(0)
    made, shape = MODULES[module]
    made = made.double().eval()
    site = site_of(module)
    values = {n: 0.5 * torch.randn(sets, *s, dtype=torch.float64) for n, s in FORMS[form].shapes(site).items()}
    return made, torch.randn(shape, dtype=torch.float64), site, FORMS[form], values


@pytest.mark.parametrize(("module", "form"), PAIRS)
def test_changing_an_output_is_changing_the_weights(module: str, form: str) -> None:
    made, x, site, one, values = case(module, form, 1)
    changed = one.apply(site, values, Made((x,), made(x)), None)
    folded = one.folded(site, {name: value[0] for name, value in values.items()})
    shadow = shadow_of(made, folded)
    assert torch.allclose(changed, shadow(x), atol=1e-12)
    assert not torch.allclose(changed, made(x), atol=1e-3)


@pytest.mark.parametrize(("module", "form"), PAIRS)
def test_rows_get_the_values_of_their_own_pattern(module: str, form: str) -> None:
    made, x, site, one, values = case(module, form, 3)
    ids = torch.tensor([2, 0, 1, 1, 0, 2])
    together = one.apply(site, values, Made((x,), made(x)), RowsOf(0, ids))
    for row, number in enumerate(ids.tolist()):
        mine = {name: value[number : number + 1] for name, value in values.items()}
        alone = one.apply(site, mine, Made((x[row : row + 1],), made(x[row : row + 1])), None)
        assert torch.allclose(together[row : row + 1], alone, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("module", "axis"), [("linear", 1), ("conv1d", 2), ("conv2d, same", 2), ("conv2d, same", 3)])
def test_rows_may_lie_along_any_axis(module: str, form: str, axis: int) -> None:
    _, x, _, one, _ = case(module, form, 3)
    made = nn.Linear(3, 4) if module == "linear" else nn.Conv1d(3, 4, 1) if "1d" in module else nn.Conv2d(3, 4, 1)
    (site,) = find_sites(nn.Sequential(made.double()), Filter())[0]
    values = {n: 0.5 * torch.randn(3, *s, dtype=torch.float64) for n, s in one.shapes(site).items()}
    ids = torch.arange(x.shape[axis]) * 2 % 3
    together = one.apply(site, values, Made((x,), made(x)), RowsOf(axis, ids))
    for number in range(3):
        mine = {name: value[number : number + 1] for name, value in values.items()}
        alone = one.apply(site, mine, Made((x,), made(x)), None)
        places = (ids == number).nonzero()[:, 0]
        assert torch.allclose(together.index_select(axis, places), alone.index_select(axis, places), atol=1e-12)


@pytest.mark.parametrize(("module", "form"), PAIRS)
def test_what_begins_changes_no_bit(module: str, form: str) -> None:
    made, x, site, one, values = case(module, form, 2)
    draw = torch.Generator().manual_seed(0)
    begun = {n: torch.stack([one.begin(n, tuple(v.shape[1:]), draw) for _ in range(2)]) for n, v in values.items()}
    ids = torch.tensor([0, 1, 0, 1, 0, 1])
    assert torch.equal(one.apply(site, begun, Made((x,), made(x)), RowsOf(0, ids)), made(x))


@pytest.mark.parametrize("shape", [(3, 5), (3, 3)])
def test_unbatched_images_keep_their_channels(shape: tuple[int, ...]) -> None:
    made = nn.Conv1d(3, 3, 1).double()
    (site,) = find_sites(nn.Sequential(made), Filter())[0]
    x = torch.randn(shape, dtype=torch.float64)
    for one in FORMS.values():
        values = {n: torch.randn(1, *s, dtype=torch.float64) for n, s in one.shapes(site).items()}
        alone = one.apply(site, values, Made((x,), made(x)), None)
        assert torch.allclose(alone, one.apply(site, values, Made((x[None],), made(x[None])), None)[0])


def test_only_fresh_outputs_are_changed_in_place_and_only_without_gradients() -> None:
    made, x, site, one, values = case("linear", "scale-shift", 1)
    output = made(x).detach()
    before = output.clone()
    one.apply(site, values, Made((x,), output, fresh=True), None)
    with torch.no_grad():
        one.apply(site, values, Made((x,), output), None)
        assert torch.equal(output, before)
        assert one.apply(site, values, Made((x,), output, fresh=True), None) is output


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_the_channels_of_a_transposed_convolution_lie_in_groups(groups: int, into: int, out: int) -> None:
    made = nn.ConvTranspose1d(groups * into, groups * out, 2, groups=groups).double()
    (site,) = find_sites(nn.Sequential(made), Filter())[0]
    x = torch.randn(2, groups * into, 3, dtype=torch.float64)
    scale = torch.randn(1, groups * out, dtype=torch.float64)
    form = Affine(shift=False)
    folded = form.folded(site, {"scale": scale[0]})
    expected = made(x) * (1 + scale[..., None])
    assert torch.allclose(shadow_of(made, folded)(x), expected)


@pytest.mark.parametrize("form", [Affine(), Affine(shift=False), Affine(scale=False)])
def test_affine_values_compose_as_maps_in_the_order_of_the_modalities(form: Affine) -> None:
    site = find_sites(nn.Sequential(nn.Linear(1, 4)), Filter())[0][0]
    values = {name: torch.randn(3, *shape) for name, shape in form.shapes(site).items()}
    absent = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    found = form.compose(values, absent)
    x = torch.randn(4)
    for row, gone in enumerate(absent.tolist()):
        y = x
        for m in range(3):
            if gone[m]:
                y = y * (1 + values.get("scale", torch.zeros(3, 4))[m]) + values.get("shift", torch.zeros(3, 4))[m]
        one = {name: value[row] for name, value in found.items()}
        assert torch.allclose(
            x * (1 + one.get("scale", torch.zeros(4))) + one.get("shift", torch.zeros(4)), y, atol=1e-6
        )


@pytest.mark.parametrize("form", [LowRank(rank=2), LowRank(rank=0, bias=True), LowRank(rank=3, alpha=6.0)])
def test_products_of_low_rank_compose_as_a_sum(form: LowRank) -> None:
    site = find_sites(nn.Sequential(nn.Linear(3, 4)), Filter())[0][0]
    values = {name: torch.randn(3, *shape) for name, shape in form.shapes(site).items()}
    found = form.compose(values, torch.tensor([[True, False, True]]))
    x = torch.randn(2, 3)

    def change(v: dict[str, Any]) -> Tensor:
        return form.apply(site, v, Made((x,), torch.zeros(2, 4)), None)

    parts = [change({name: value[m : m + 1] for name, value in values.items()}) for m in (0, 2)]
    assert torch.allclose(change(found), parts[0] + parts[1], atol=1e-5)


def test_places_broadcast_with_their_parameter() -> None:
    assert Place("weight", 2, 4, axis=1).along(torch.arange(5.0), torch.zeros(3, 2)).tolist() == [[2.0, 3.0]]
    assert Place("weight", 0, 2, axis=-1).along(torch.arange(2.0), torch.zeros(3, 4, 2)).shape == (1, 1, 2)
