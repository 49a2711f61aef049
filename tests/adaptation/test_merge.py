from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from tests.adaptation.zoo import ZOO, Scaled, adapted, animal, difference, patterns_of, rows, trained
from torch import Tensor, nn

import absentia
from absentia.adaptation import KINDS, Adapted
from absentia.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")


def answers(net: Adapted, arguments: dict[str, Any], pattern: str) -> tuple[Any, Any]:
    """Of the adapted network and of the merged one."""
    plain = net.merge(pattern)
    signature = net.plan.signature
    with net.present(pattern), torch.no_grad():
        bound = signature.bind([], arguments)
        filled = net.filled(bound, net.presence_of(bound))
        torch.manual_seed(0)
        one = net(**arguments)
        torch.manual_seed(0)
        return one, signature.call(plain, filled)


def is_plain(network: nn.Module) -> bool:
    """Whether nothing in it is of this library."""
    for module in network.modules():
        held = [module, *vars(module).values(), *module._forward_hooks.values()]
        if any(type(one).__module__.startswith("absentia") for one in held) or "forward" in vars(module):
            return False
    return True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in ZOO if name != "vilt" and not ZOO[name].unmergeable])
def test_a_merged_network_answers_as_the_adapted_one_and_is_plain(name: str, kind: str) -> None:
    network = animal(name)
    try:
        net = trained(adapted(name, network, kind=kind, example=None))
    except UserError as error:
        assert kind in ("norm", "low-rank", "bias") and "finds no site" in str(error)
        return
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for pattern in patterns_of(net)[:2]:
        one, two = answers(net, rows(name), pattern)
        assert difference(one, two) < 1e-12
    plain = net.merge(pattern)
    assert is_plain(plain) and type(plain) is type(network) and set(plain.state_dict()) >= set(before)
    assert not any(m.training for m in plain.modules())
    assert not {t.data_ptr() for t in plain.parameters()} & {t.data_ptr() for t in network.parameters()}
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())


@pytest.mark.parametrize("kind", ["scale-shift", "low-rank", "compositional"])
def test_a_merged_vilt_answers_as_the_adapted_one(kind: str) -> None:
    net = trained(adapted("vilt", kind=kind), 0.05)
    for pattern in patterns_of(net):
        one, two = answers(net, rows("vilt"), pattern)
        assert difference(one, two) < 1e-9


@pytest.mark.parametrize("name", [name for name in ZOO if ZOO[name].unmergeable])
def test_what_would_be_wrong_is_refused(name: str) -> None:
    net = trained(adapted(name))
    with pytest.raises(UserError, match=ZOO[name].unmergeable):
        for pattern in patterns_of(net):
            net.merge(pattern)


class Reading(nn.Module):
    """A network that reads the weight of one of its layers elsewhere too."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.b, self.mix = nn.Embedding(7, 4), nn.Linear(2, 4), nn.Linear(4, 4)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.mix(self.words(a).mean(1) + self.b(b)) @ self.words.weight.T


@pytest.mark.parametrize("kind", ["scale-shift", "compositional"])
def test_a_weight_that_is_read_elsewhere_is_refused_where_the_example_shows_it(kind: str) -> None:
    example = rows("words")
    options: dict[str, Any] = {"modalities": ["a", "b"], "kind": kind, "say": None}
    net = trained(absentia.adapt(Reading().double(), example=example, **options))
    with pytest.raises(UserError, match="reads weights that adapters change elsewhere too"):
        net.merge("a")
    fine = trained(absentia.adapt(Reading().double(), example=example, exclude="words", **options))
    one, two = answers(fine, example, "a")
    assert difference(one, two) < 1e-12


@pytest.mark.parametrize("name", [name for name in ZOO if not ZOO[name].unmergeable])
def test_a_merge_is_tried_on_the_example_in_any_precision(name: str) -> None:
    for kind in (torch.float32, torch.bfloat16) if name != "vilt" else (torch.float32,):
        net = trained(adapted(name), 0.05 if name == "vilt" else 0.3)
        net.to(kind)
        for pattern in patterns_of(net)[:2]:
            net.merge(pattern)


def test_a_tied_weight_is_no_matter_where_only_biases_change() -> None:
    net = trained(adapted("tied", kind="bias"))
    one, two = answers(net, rows("tied"), "b")
    assert difference(one, two) < 1e-12
    plain: Any = net.merge("b")
    assert plain.decoder.weight is plain.embedding.weight


def test_everything_present_merges_to_a_copy_of_the_network() -> None:
    network = animal("conv fusion").train()
    plain = trained(adapted("conv fusion", network)).merge("rgb+depth")
    assert list(plain.state_dict()) == list(network.state_dict())
    assert all(map(torch.equal, plain.state_dict().values(), network.state_dict().values()))
    assert all(p.requires_grad for p in plain.parameters())


def test_a_merged_network_learns_what_the_network_learned() -> None:
    network = animal("conv fusion")
    for parameter in network.encoders.parameters():  # type: ignore[union-attr]
        parameter.requires_grad_(False)
    wants = {name: p.requires_grad for name, p in network.named_parameters()}
    plain = trained(adapted("conv fusion", network)).merge("rgb")
    assert {name: p.requires_grad for name, p in plain.named_parameters()} == wants


def test_a_merged_network_loads_with_torch_alone() -> None:
    net = trained(adapted("norms"))
    plain = net.merge("a")
    file = io.BytesIO()
    torch.save(plain.state_dict(), file)  # noqa: TID251  (what a user might do)
    file.seek(0)
    state = torch.load(file, weights_only=True)  # noqa: TID251
    again = net.merge("b")
    again.load_state_dict(state)
    given = rows("norms")
    given["b"] = torch.zeros_like(given["b"])
    assert torch.equal(again(**given), plain(**given))


def test_a_padding_row_of_an_embedding_is_shifted_as_its_output_is() -> None:
    net = trained(adapted("words"))
    arguments = rows("words")
    arguments["a"][:, 0] = 0
    one, two = answers(net, arguments, "a")
    assert difference(one, two) < 1e-12


def test_an_embedding_that_rewrites_its_weights_is_refused() -> None:
    class Bounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.b = nn.Embedding(5, 3, max_norm=1.0), nn.Linear(2, 3)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.words(a).mean(1) + self.b(b)

    net = trained(absentia.adapt(Bounded(), modalities={"a": "words", "b": "b"}, say=None))
    with pytest.raises(UserError, match="max_norm"):
        net.merge("a")
    net.merge("b")


@pytest.mark.parametrize("said", [{}, {"weight": "weight", "bias": "bias"}])
def test_a_registered_type_merges_if_its_weights_are_known(said: dict[str, str], clean_table: None) -> None:
    absentia.register_site(Scaled, channels=lambda module: len(module.weight), **said)
    net = trained(adapted("leaf"))
    assert "own" in [site.name for site in net.bank.sites]
    if said:
        one, two = answers(net, rows("leaf"), "a")
        assert difference(one, two) < 1e-12
    else:
        with pytest.raises(UserError, match="register_site said nothing of its weights"):
            net.merge("a")


@pytest.mark.parametrize(
    ("pattern", "words"), [("c", "unknown modality 'c'"), ([], "nothing present"), (None, "expected names")]
)
def test_a_pattern_that_is_none_is_an_error(pattern: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        adapted("keywords").merge(pattern)


def test_a_pattern_without_adapters_merges_as_unknown_says() -> None:
    net = trained(adapted("three", patterns=["a+b", "b+c"]))
    with pytest.raises(UserError, match="no adapters for the pattern 'a\\+c'"):
        net.merge("a+c")
    for unknown in ("base", "nearest"):
        net.unknown = unknown  # type: ignore[assignment]
        one, two = answers(net, rows("three"), "a+c")
        assert difference(one, two) < 1e-12


def test_a_merged_network_can_be_exported_and_compiled() -> None:
    net = trained(adapted("conv fusion"))
    plain = net.merge("rgb")
    arguments = rows("conv fusion")
    given = (arguments["rgb"], torch.zeros_like(arguments["depth"]))
    expected = plain(*given)
    exported = torch.export.export(plain, given).module()
    assert difference(exported(*given), expected) < 1e-12
    compiled = torch.compile(plain, backend="eager", fullgraph=True)  # needs no compiler of C
    assert difference(compiled(*given), expected) < 1e-12
