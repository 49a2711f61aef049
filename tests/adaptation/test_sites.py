from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.adaptation.zoo import ZOO, Recurrent, Scaled, animal
from torch import nn
from torch.nn.utils import parametrizations

from absentia.adaptation.site_types import SITE_TYPES, register_site
from absentia.adaptation.sites import Filter, find_sites, owned
from absentia.errors import UserError


def names(network: nn.Module, **wanted: Any) -> list[str]:
    return [site.name for site in find_sites(network, Filter(**wanted))[0]]


def reasons(network: nn.Module, **wanted: Any) -> dict[str, str]:
    return {one.name: one.reason for one in find_sites(network, Filter(**wanted))[1]}


@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_belongs_to_a_site_or_is_reported(name: str) -> None:
    network = animal(name)
    sites, left = find_sites(network, Filter())
    known = [site.module for site in sites] + [network.get_submodule(x.name) for x in left if x.name[0] != "("]
    known += [network] if any(x.name == "(the network)" for x in left) else []
    covered = {id(p) for m in known for p in m.parameters(recurse=m is not network)}
    assert {id(p) for p in network.parameters()} == covered
    assert len({site.name for site in sites}) == len(sites)


def test_sites_inside_attention_and_recurrent_layers_have_names_of_their_own() -> None:
    assert names(animal("attention")) == ["a", "attention.in_proj", "attention.out_proj", "head"]
    parts = ["l0", "l0_reverse", "l1", "l1_reverse"]
    assert names(animal("lstm")) == ["a", "b", *(f"rnn.{p}" for p in parts), "head"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"include": ["encoders.*"]}, 4),
        ({"include": ["encoders.rgb.*", "head"]}, 3),
        ({"exclude": ["encoders.*", "fusion*"]}, 1),
        ({"include": ["*"], "exclude": ["head"]}, 10),
        ({"types": ["conv"]}, 2),
        ({"types": ["norm", nn.Linear]}, 7),
        ({"types": [nn.BatchNorm2d]}, 2),
        ({"depth": 0}, 1),
        ({"depth": 1, "types": ["norm"]}, 2),
        ({"include": ["fusion.self_attn"]}, 2),
        ({"include": ["fusion.self_attn.out_proj"]}, 1),
        ({"exclude": ["fusion.self_attn.out_proj"]}, 10),
        ({"exclude": ["fusion.self_attn.in_proj"]}, 10),
    ],
)
def test_sites_can_be_chosen(wanted: dict[str, Any], expected: int) -> None:
    assert len(names(animal("conv fusion"), **wanted)) == expected


def test_a_module_with_two_names_is_chosen_by_either() -> None:
    network = animal("shared")
    assert names(network) == ["first", "head"]
    assert names(network, exclude=["second"]) == ["head"]
    assert names(network, include=["second"]) == ["first"]
    assert "the same module as 'first'" in reasons(network)["second"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"include": ["encoder.*"]}, r"include: no module is called 'encoder.\*'; did you mean"),
        ({"exclude": ["heads"]}, "exclude: no module is called 'heads'; did you mean 'head'"),
        ({"types": ["convs"]}, "types: unknown family 'convs'; did you mean 'conv'"),
        ({"types": [3]}, r"types: 3 is neither a family \(linear, conv"),
    ],
)
def test_a_choice_of_nothing_is_an_error(wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        names(animal("conv fusion"), **wanted)


def test_a_network_that_never_ran_is_an_error() -> None:
    with pytest.raises(UserError, match=r"'1.weight' has no values yet.*run it once"):
        names(nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3)))


def test_leaves_that_no_table_knows_are_reported_until_they_are_registered(clean_table: None) -> None:
    network = animal("leaf")
    assert "parameters of its own (weight, bias); register_site" in reasons(network)["own"]
    register_site(Scaled, channels=lambda module: len(module.weight), weight="weight", bias="bias")
    assert "own" in names(network) and "own" not in reasons(network)


def test_types_that_derive_from_known_ones_are_known() -> None:
    class Own(nn.Linear):
        pass

    assert names(nn.Sequential(Own(2, 3))) == ["0"]


def test_computed_weights_of_recurrent_layers_are_left_out() -> None:
    network = Recurrent(nn.LSTM)
    parametrizations.weight_norm(network.rnn, "weight_hh_l0")
    assert names(network) == ["a", "b", "head"] and "computed" in reasons(network)["rnn"]
    assert names(nn.ModuleList([nn.LSTM(2, 3, proj_size=2)])) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": "width"}, "Scaled has no attribute 'width'"),
        ({"channels": lambda m: 4, "weight": "gamma"}, "Scaled has no parameter 'gamma'"),
        (
            {"channels": lambda m: 3, "weight": "weight"},
            r"'weight' of Scaled is \(4,\), which does not begin with its 3",
        ),
    ],
)
def test_a_registration_that_does_not_fit_is_an_error(options: dict[str, Any], words: str, clean_table: None) -> None:
    register_site(Scaled, **options)
    with pytest.raises(UserError, match=words):
        names(animal("leaf"))


def test_what_is_no_type_of_module_cannot_be_registered() -> None:
    for kind in (3, int, nn.Linear(1, 1)):
        with pytest.raises(UserError, match=r"is not a type of torch.nn.Module"):
            register_site(kind, channels="c")  # type: ignore[arg-type]


def test_an_axis_that_an_output_does_not_have_is_an_error(clean_table: None) -> None:
    register_site(Scaled, channels=lambda module: 4, axis=2)
    with pytest.raises(UserError, match="no axis 2 in its output of 2"):
        SITE_TYPES[Scaled].axis(Scaled(), 2)
    assert SITE_TYPES[Scaled].axis(Scaled(), 3) == 2


@pytest.mark.parametrize(
    ("module", "shape", "axis", "channels"),
    [
        (nn.Linear(4, 3), (4,), 0, 3),
        (nn.Linear(4, 3), (3, 3, 4), 2, 3),
        (nn.Bilinear(4, 4, 3), (2, 4), 1, 3),
        (nn.Conv2d(3, 3, 1), (2, 3, 3, 3), 1, 3),
        (nn.Conv2d(3, 3, 1), (3, 3, 3), 0, 3),
        (nn.Conv1d(3, 3, 1), (3, 3, 3), 1, 3),
        (nn.Conv1d(3, 3, 1), (3, 3), 0, 3),
        (nn.Conv3d(2, 3, 1), (2, 2, 2, 2), 0, 3),
        (nn.ConvTranspose2d(4, 6, 1, groups=2), (4, 3, 3), 0, 6),
        (nn.BatchNorm1d(3), (3, 3), 1, 3),
        (nn.BatchNorm1d(3), (3, 3, 3), 1, 3),
        (nn.SyncBatchNorm(3), (3, 3), 1, 3),
        (nn.SyncBatchNorm(3), (3, 3, 3, 3), 1, 3),
        (nn.InstanceNorm1d(3), (3, 3), 0, 3),
        (nn.InstanceNorm2d(3), (2, 3, 3, 3), 1, 3),
        (nn.GroupNorm(1, 3), (2, 3, 5, 5), 1, 3),
        (nn.LayerNorm([4, 3]), (2, 4, 3), 2, 3),
        (nn.RMSNorm(3), (2, 4, 3), 2, 3),
        (nn.Embedding(5, 3), (2, 4), 2, 3),
    ],
)
def test_channels_lie_where_the_type_says_whatever_the_shape(
    module: nn.Module, shape: tuple[int, ...], axis: int, channels: int
) -> None:
    (site,) = find_sites(nn.Sequential(module), Filter())[0]
    x = torch.zeros(shape, dtype=torch.long) if isinstance(module, nn.Embedding) else torch.randn(shape)
    output = module.eval()(x, x) if isinstance(module, nn.Bilinear) else module.eval()(x)
    assert site.type.axis(module, output.ndim) == axis
    assert site.channels == channels == output.shape[axis]


def test_owners_are_those_of_the_prefixes() -> None:
    network = animal("conv fusion")
    sites = owned(find_sites(network, Filter())[0], {"rgb": ["encoders.rgb"], "depth": ["encoders.depth"]}, network)
    assert [site.owner for site in sites] == ["rgb"] * 2 + ["depth"] * 2 + [None] * 7


@pytest.mark.parametrize(
    ("modalities", "words"),
    [
        ({"rgb": ["encoder.rgb"]}, "modality 'rgb': no module is called 'encoder.rgb'; did you mean 'encoders.rgb'"),
        ({"rgb": [""]}, "no module is called ''"),
        ({"rgb": ["encoders"], "depth": ["encoders.depth"]}, "would belong to 'rgb' and to 'depth'; give prefixes"),
    ],
)
def test_prefixes_that_do_not_fit_are_an_error(modalities: dict[str, list[str]], words: str) -> None:
    network = animal("conv fusion")
    with pytest.raises(UserError, match=words):
        owned(find_sites(network, Filter())[0], modalities, network)


def test_a_prefix_ends_at_a_dot() -> None:
    network = nn.ModuleDict({"rgb": nn.Linear(1, 1), "rgb2": nn.Linear(1, 1)})
    assert [s.owner for s in owned(find_sites(network, Filter())[0], {"a": ["rgb"]}, network)] == ["a", None]


def test_a_module_that_two_modalities_share_by_two_names_belongs_to_neither() -> None:
    network = animal("shared")
    sites = owned(find_sites(network, Filter())[0], {"a": ["first"], "b": ["second"]}, network)
    assert [site.owner for site in sites] == [None, None]
