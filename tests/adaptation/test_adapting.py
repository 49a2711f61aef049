from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from tests.adaptation.zoo import adapted, animal, rows
from torch import Tensor, nn

import absentia
from absentia.adaptation import KINDS
from absentia.errors import UserError

OWN = {"rgb": "encoders.rgb", "depth": "encoders.depth"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "scale-shfit"}, "unknown kind 'scale-shfit'; did you mean 'scale-shift'"),
        ({"kind": "low-rank:0"}, "unknown kind 'low-rank:0'; did you mean 'low-rank'"),
        ({"unknown": "near"}, "unknown 'near': did you mean 'nearest'"),
        ({"mixing": "gathers"}, "mixing 'gathers': did you mean 'gather'"),
        ({"unknown": "compose", "kind": "low-rank"}, "unknown='compose' does not go with kind 'low-rank'"),
        ({"patterns": ["rgbd"]}, "pattern 'rgbd': unknown modality 'rgbd'; did you mean 'rgb'"),
        ({"patterns": ["rgbd"], "kind": "compositional"}, "unknown modality 'rgbd'"),
        ({"modalities": "rgb"}, "modalities: expected names, or a mapping"),
        ({"modalities": []}, "modalities: expected names"),
        ({"modalities": None}, "modalities: expected names"),
        ({"modalities": ["rgb", "rgb"]}, "a name stands there twice"),
        ({"modalities": ["rgb+depth"]}, "modality 'rgb\\+depth': a name is a word without '\\+'"),
        ({"modalities": {"rgb": 3, "depth": "encoders.depth"}}, "modality 'rgb': expected names of modules, not 3"),
        ({"modalities": {"rgb": "encoder.rgb", "depth": "encoders.depth"}}, "did you mean 'encoders.rgb'"),
        ({"modalities": {"rgb": "encoders", "depth": "encoders.depth"}}, "give prefixes that do not overlap"),
        ({"owners": "head"}, "owners: 'head' is none of rgb, depth, fusion"),
        ({"types": "pooling"}, "types: unknown family 'pooling'"),
        ({"include": "encoders"}, "no site to adapt: .*not included"),
        ({"exclude": "*"}, "no site to adapt: .*excluded"),
        (
            {"kind": "head-only", "head": "fusion"},
            "head 'fusion' is no linear layer or convolution that can be replaced",
        ),
        (
            {"kind": "norm", "exclude": ["*norm*", "encoders.*.1"]},
            "kind 'norm' finds no site: .*encoders.rgb.1 .BatchNorm2d., excluded",
        ),
        ({"inputs": {"rgb": "x"}}, "inputs of 'rgb': the network takes no 'x'"),
        ({"kind": None}, "kind None: expected a name"),
        ({"patterns": None}, "patterns None: expected 'all', or a list"),
        ({"head": "head"}, "head 'head' goes with kind 'head-only', not with 'scale-shift'"),
    ],
)
def test_a_wrong_wish_is_one_clear_error_and_the_network_stays(options: dict[str, Any], words: str) -> None:
    network = animal("conv fusion").train()
    with pytest.raises(UserError, match=words) as caught:
        adapted("conv fusion", network, **options)
    assert "\n" not in str(caught.value) and not str(caught.value).endswith(("; ", ": ", " "))
    assert network.training and all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("network", [nn.Flatten(), nn.Sequential(nn.ReLU(), nn.Flatten())])
def test_a_network_without_sites_is_an_error(network: nn.Module) -> None:
    with pytest.raises(UserError, match="no site to adapt; register_site makes a type of module one"):
        absentia.adapt(network, modalities=["a"], say=None)


def test_a_network_of_unknown_leaves_says_how_to_make_them_known() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, a: Tensor) -> Tensor:
            return a * self.weight

    with pytest.raises(UserError, match=r"no site to adapt: \(the network\) \(Own\), has parameters .*register_site"):
        absentia.adapt(Own(), modalities=["a"], say=None)


def test_what_is_no_network_is_an_error() -> None:
    with pytest.raises(UserError, match=r"of type function, is no torch\.nn\.Module"):
        absentia.adapt(lambda x: x, modalities=["a"])  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"of type Adapted, is adapted already; take its \.network"):
        absentia.adapt(adapted("three"), modalities=["a"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (torch.jit.script, "the network is TorchScript; adapt the network that it was made of"),
        (torch.compile, "the network is compiled, which goes around adapters; adapt network._orig_mod"),
        (lambda network: nn.Sequential(torch.compile(network)), "its '0' is compiled"),
    ],
)
def test_what_does_not_run_as_python_is_an_error(changed: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        absentia.adapt(changed(nn.Linear(2, 2)), modalities=["a"], say=None)


def test_without_an_example_it_is_said_that_nothing_was_tried() -> None:
    assert any("not tried out" in line for line in adapted("conv fusion", example=None).plan.lines())
    assert not any("not tried out" in line for line in adapted("conv fusion").plan.lines())


def test_quantised_modules_are_no_sites() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(animal("three").float(), {nn.Linear})
    with pytest.raises(UserError, match="no site to adapt"):
        absentia.adapt(quantised, modalities=["a", "b", "c"], say=None)


def test_what_matched_and_what_did_not_is_said() -> None:
    heard: list[str] = []
    net = adapted("conv fusion", say=heard.append)
    text = "\n".join(heard)
    assert heard[0] == "11 sites: 2 conv, 4 norm, 2 attention, 3 linear"
    assert "belonging to 2 rgb, 2 depth, 7 fusion" in text and "mixed patterns run in one pass" in text
    assert "left out, has parameters of its own (place)" in text
    assert f"{max(net.bank.count(n) for n in range(2)):,} numbers per pattern" in text and "2 sets" in text


def test_owners_are_found_by_the_example_where_none_are_named() -> None:
    named = adapted("conv fusion")
    found = adapted("conv fusion", modalities=["rgb", "depth"])
    assert [(s.name, s.owner) for s in named.bank.sites] == [(s.name, s.owner) for s in found.bank.sites]


@pytest.mark.parametrize(("owners", "count"), [("rgb", 2), (["rgb", "depth"], 4), ("fusion", 7), (("fusion",), 7)])
def test_sites_can_be_chosen_by_their_owners(owners: Any, count: int) -> None:
    net = adapted("conv fusion", owners=owners)
    assert len(net.bank.sites) == count


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include": "head"}, ["head"]),
        ({"include": ("head",)}, ["head"]),
        ({"types": nn.Linear, "depth": 0}, ["head"]),
        ({"types": "conv"}, ["encoders.rgb.0", "encoders.depth.0"]),
        ({"kind": "head-only"}, ["head"]),
        ({"kind": "head-only", "head": "encoders.rgb.0"}, ["encoders.rgb.0"]),
    ],
)
def test_one_name_will_do_where_several_may_stand(options: dict[str, Any], expected: list[str]) -> None:
    assert [site.name for site in adapted("conv fusion", **options).bank.sites] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_found_by_name_and_small(kind: str) -> None:
    net = adapted("conv fusion", kind=kind)
    total = sum(p.numel() for p in net.network.parameters())
    assert net.bank.kind.name == kind and 0 < net.bank.count(0) < total


def test_the_example_may_be_given_by_position_and_carries_what_is_no_modality() -> None:
    example = rows("mapping")
    assert adapted("mapping", example=[example["views"], 2.0]).gathers
    assert adapted("three", example=list(rows("three").values())).gathers


def test_one_modality_is_a_network_that_nothing_is_missing_of() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, a: Tensor) -> Tensor:
            return self.head(a)

    heard: list[str] = []
    x = torch.randn(4, 3)
    net = absentia.adapt(One(), modalities=["a"], example=[x], say=heard.append)
    assert torch.equal(net(x), net.network(x)) and not any(p.numel() for p in net.adapters())
    assert heard
