from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from tests.adaptation.zoo import ZOO, adapted, animal, mixed, numbers, rows, trained
from torch import Tensor

from absentia.adaptation import KINDS, Adapted
from absentia.adaptation.file import fingerprint
from absentia.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")


def values_of(net: Adapted) -> list[Tensor]:
    return [p.detach().clone() for p in net.adapters()]


def same_values(net: Adapted, before: list[Tensor]) -> bool:
    after = values_of(net)
    return len(after) == len(before) and all(map(torch.equal, after, before))


def parts(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["absentia"]), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> None:
    about, tensors = parts(path)
    change(about, tensors)
    save_file(tensors, path, metadata={"absentia": json.dumps(about)})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return trained(adapted("keywords")).save(tmp_path / "adapters", precision="float64")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["conv fusion", "lstm", "attention", "norms", "three", "list", "channels"])
def test_what_is_saved_is_loaded_bit_by_bit(name: str, kind: str, tmp_path: Path) -> None:
    try:
        net = trained(adapted(name, kind=kind))
    except UserError:
        assert kind in ("norm", "low-rank", "bias")
        return
    path = net.save(tmp_path / "adapters", precision="float64", metrics={"loss": 0.5})
    other = adapted(name, kind=kind)
    assert other.load(tmp_path / "adapters") == {"loss": 0.5}
    assert same_values(other, values_of(net))
    with net.present(mixed(net)), other.present(mixed(net)):
        assert all(map(torch.equal, numbers(net(**rows(name))), numbers(other(**rows(name)))))
    assert other.save(tmp_path / "again", precision="float64", metrics={"loss": 0.5}).read_bytes() == path.read_bytes()


def test_half_precision_keeps_scales_to_a_millionth(tmp_path: Path) -> None:
    net = trained(adapted("keywords"), 0.01)
    net.save(tmp_path / "adapters")
    other = adapted("keywords")
    other.load(tmp_path / "adapters")
    off = [float((a - b).abs().mean()) for a, b in zip(values_of(net), values_of(other), strict=True)]
    assert 0 < max(off) < 5e-6


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
def test_a_file_is_its_numbers_and_a_header(precision: str, tmp_path: Path) -> None:
    net = trained(adapted("vilt"))
    path = net.save(tmp_path / "adapters", precision=precision)
    count = sum(p.numel() for p in net.adapters())
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    assert len(content) - header <= 1.02 * count * (4 if precision == "float32" else 2)
    assert len(parts(path)[1]) * 160 + 8000 > header
    assert path.suffix == ".safetensors"


def test_loading_brings_the_patterns_of_the_file(tmp_path: Path) -> None:
    net = trained(adapted("three", patterns=["a", "b+c"]))
    net.save(tmp_path / "some", precision="float64")
    other = adapted("three")
    other.load(tmp_path / "some")
    assert other.bank.set_names == ["a", "b+c"]
    with net.present("a"), other.present("a"):
        assert torch.equal(net(**rows("three")), other(**rows("three")))
    assert all(p.requires_grad for p in other.adapters())


def test_channels_that_do_not_learn_take_no_place_in_the_file(tmp_path: Path) -> None:
    net = adapted("three")
    full = len(trained(net).save(tmp_path / "full", precision="float64").read_bytes())
    for site in net.bank.sites:
        value = net.bank.raw(site)["scale"]
        mask = torch.zeros(value.shape, dtype=torch.bool)
        mask[:, 1] = True
        net.bank.keep(site, mask)
    path = net.save(tmp_path / "some", precision="float64")
    other = adapted("three")
    other.load(path)
    assert len(path.read_bytes()) < full * 2
    with net.present("a"), other.present("a"):
        assert torch.equal(net(**rows("three")), other(**rows("three")))
    assert [other.bank.count(n) for n in range(6)] == [net.bank.count(n) for n in range(6)]


@pytest.mark.parametrize("filler", ["learned", "mean", "tensor"])
def test_fillers_are_in_the_file(filler: str, tmp_path: Path) -> None:
    def made(value: float) -> Adapted:
        one: Any = torch.full((3,), value, dtype=torch.float64) if filler == "tensor" else filler
        return adapted("keywords", filler={"a": one})

    net, other = trained(made(0.5)), made(0.1)
    arguments = rows("keywords")
    if filler == "mean":
        net.measure([(arguments, None)])
    net.save(tmp_path / "adapters", precision="float64")
    other.load(tmp_path / "adapters")
    assert torch.equal(net(a=None, b=arguments["b"]), other(a=None, b=arguments["b"]))
    assert filler != "learned" or next(iter(other.fillers.parameters())).requires_grad


def test_the_values_of_the_network_may_be_left_out_of_the_fingerprint(tmp_path: Path) -> None:
    net = trained(adapted("keywords"))
    net.save(tmp_path / "adapters", values=False)
    adapted("keywords", animal("keywords", seed=3)).load(tmp_path / "adapters")
    net.save(tmp_path / "adapters")
    with pytest.raises(UserError, match="other weights of this network"):
        adapted("keywords", animal("keywords", seed=3)).load(tmp_path / "adapters")


REFUSALS: dict[str, tuple[Callable[[], Adapted], str]] = {
    "another network": (lambda: adapted("dict", kind="scale-shift"), "made for another network"),
    "another kind": (lambda: adapted("keywords", kind="low-rank"), "made with kind 'scale-shift'"),
    "another rank": (lambda: adapted("keywords", kind="low-rank:2"), "here it is 'low-rank:2'"),
    "another order": (lambda: adapted("keywords", modalities={"b": "b", "a": "a"}), r"for the modalities \['a', 'b'\]"),
    "fewer sites": (lambda: adapted("keywords", exclude="head"), "'head' is only in the file"),
    "another filler": (lambda: adapted("keywords", filler="learned"), "made with the fillers"),
    "another precision": (lambda: adapted("keywords").float(), "made for another network"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_file_for_something_else_is_refused_and_nothing_changes(case: str, saved: Path) -> None:
    make, words = REFUSALS[case]
    net = trained(make())
    before, sets = values_of(net), net.bank.set_names
    with pytest.raises(UserError, match=words):
        net.load(saved)
    assert same_values(net, before) and net.bank.set_names == sets


def test_a_file_asks_for_the_network_that_answered_a_pattern_in_its_place(tmp_path: Path) -> None:
    net, other = trained(adapted("keywords")), animal("keywords", seed=9)
    net.use("a", other)
    path = net.save(tmp_path / "adapters")
    again = adapted("keywords")
    before = values_of(again)
    with pytest.raises(UserError, match=r"'a' was answered by another network, .* say use\('a', network\) first"):
        again.load(path)
    assert same_values(again, before)
    again.use("a", other)
    again.load(path)


def test_a_file_with_fewer_sites_is_refused(tmp_path: Path) -> None:
    adapted("keywords", exclude="head").save(tmp_path / "adapters")
    with pytest.raises(UserError, match="'head' is only here"):
        adapted("keywords").load(tmp_path / "adapters")


def _first(tensors: dict[str, Tensor], change: Callable[[Tensor], Tensor]) -> None:
    key = sorted(tensors)[0]
    tensors[key] = change(tensors[key])


DAMAGE: dict[str, tuple[Callable[[dict[str, Any], dict[str, Tensor]], Any], str]] = {
    "a missing tensor": (lambda about, tensors: tensors.pop(sorted(tensors)[0]), "is missing"),
    "a tensor too many": (lambda about, tensors: tensors.update(more=torch.zeros(1)), "1 tensors too many"),
    "a missing site": (lambda about, tensors: about["sites"].pop("head"), "'head' is only here"),
    "a site too many": (lambda about, tensors: about["sites"].update(more=3), "'more' is only in the file"),
    "another size": (lambda about, tensors: about["sites"].update(head=3), "'head' is of another size"),
    "nan": (lambda about, tensors: _first(tensors, lambda t: t * float("nan")), "not finite"),
    "infinity": (lambda about, tensors: _first(tensors, lambda t: t + float("inf")), "not finite"),
    "another shape": (lambda about, tensors: _first(tensors, lambda t: t[:-1].clone()), r"is \(3,\), not \(4,\)"),
    "strange places": (
        lambda about, tensors: tensors.update({sorted(tensors)[0] + ".index": torch.arange(4).int() * 9}),
        "places that its site does not have",
    ),
    "places that are no numbers of places": (
        lambda about, tensors: tensors.update({sorted(tensors)[0] + ".index": torch.zeros(2)}),
        "places that its site does not have",
    ),
    "an unknown filler": (lambda about, tensors: tensors.update({"+filler/z": torch.zeros(1)}), "filler for 'z'"),
    "another version": (
        lambda about, tensors: about.update(format=2),
        "format 2, and this version of Absentia reads 1",
    ),
    "no sites": (lambda about, tensors: about.pop("sites"), "damaged, at 'sites'"),
    "no patterns answered elsewhere": (lambda about, tensors: about.update(elsewhere=3), "damaged, at 'elsewhere'"),
    "strange patterns answered elsewhere": (lambda about, tensors: about.update(elsewhere=[3]), "pattern 3"),
    "no names": (lambda about, tensors: about.update(modalities=3), "damaged, at 'modalities'"),
    "an unknown pattern": (lambda about, tensors: about["sets"].append("z"), "unknown modality 'z'"),
    "a pattern twice": (lambda about, tensors: about["sets"].append("a"), "is missing|twice"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_refused_and_nothing_changes(case: str, saved: Path) -> None:
    change, words = DAMAGE[case]
    rewritten(saved, change)
    net = trained(adapted("keywords"))
    before = values_of(net)
    with pytest.raises(UserError, match=words):
        net.load(saved)
    assert same_values(net, before)


def test_files_that_are_none_are_refused(saved: Path, tmp_path: Path) -> None:
    net = adapted("keywords")
    content = saved.read_bytes()
    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    save_file({"w": torch.zeros(3)}, tmp_path / "odd.safetensors", metadata={"absentia": "{"})
    save_file({"w": torch.zeros(3)}, tmp_path / "list.safetensors", metadata={"absentia": "[]"})
    (tmp_path / "short.safetensors").write_bytes(content[:-10])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "text.safetensors").write_text("gamma = 1")
    (tmp_path / "folder.safetensors").mkdir()
    for name, words in {
        "missing": "there is no such file",
        "foreign": "not of adapters that Absentia saved",
        "odd": "damaged",
        "list": "format None",
        **dict.fromkeys(("short", "empty", "text", "folder"), "cannot be read as safetensors"),
    }.items():
        with pytest.raises(UserError, match=words):
            net.load(tmp_path / name)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Adapted, Path]:
    net = trained(adapted("keywords"))
    return net, net.save(tmp_path_factory.mktemp("stored") / "adapters")


@settings(max_examples=40)
@given(place=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 10_000) | st.none())
def test_no_change_of_bytes_does_more_than_a_clear_error(
    stored: tuple[Adapted, Path], place: int, value: int, cut: int | None
) -> None:
    net, path = stored
    content = bytearray(net.save(path).read_bytes())
    content[place % len(content)] = value
    path.write_bytes(bytes(content[: cut % len(content)] if cut is not None else content))
    before = values_of(net)
    try:
        net.load(path)
    except UserError:
        assert same_values(net, before)
    assert all(bool(p.isfinite().all()) for p in net.adapters())


@pytest.mark.parametrize("value", [1e6, float("nan"), float("inf")])
def test_values_that_no_file_should_hold_are_refused(value: float, tmp_path: Path) -> None:
    net = adapted("keywords")
    with torch.no_grad():
        next(net.adapters())[0, 0] = value
    with pytest.raises(UserError, match=r"too large for float16; save with precision='float32'|not finite"):
        net.save(tmp_path / "adapters")
    assert not list(tmp_path.iterdir())
    if value == 1e6:
        net.save(tmp_path / "adapters", precision="float32")


def test_a_filler_that_diverged_is_not_saved(tmp_path: Path) -> None:
    net = adapted("keywords", filler={"a": "learned"})
    with torch.no_grad():
        next(iter(net.fillers.parameters())).fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        net.save(tmp_path / "adapters")


def test_a_place_that_cannot_be_written_is_one_clear_error_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = trained(adapted("keywords"))
    with pytest.raises(UserError, match="cannot be written: No such file or directory"):
        net.save(tmp_path / "nowhere" / "adapters")
    path = net.save(tmp_path / "adapters")
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    trained(net)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        net.save(tmp_path / "adapters")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_metrics_that_json_does_not_know_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="metrics: JSON cannot hold them"):
        adapted("keywords").save(tmp_path / "adapters", metrics={"loss": torch.tensor(1.0)})
    assert not list(tmp_path.iterdir())


def test_a_wrong_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="precision 'half': expected float16"):
        adapted("keywords").save(tmp_path / "adapters", precision="half")


def test_a_modality_called_filler_is_no_trouble(tmp_path: Path) -> None:
    example = list(rows("star").values())
    net = trained(adapted("star", modalities=["filler", "b"], example=example))
    net.save(tmp_path / "adapters", precision="float64")
    other = adapted("star", modalities=["filler", "b"], example=example)
    other.load(tmp_path / "adapters")
    assert same_values(other, values_of(net))


@pytest.mark.parametrize("name", ZOO)
def test_a_fingerprint_sees_every_change(name: str) -> None:
    network = animal(name)
    whole, form = fingerprint(network, values=True), fingerprint(network, values=False)
    tensor = list(network.state_dict().values())[-1]
    tensor.view(-1)[:1] += 1
    assert fingerprint(network, values=True) != whole and fingerprint(network, values=False) == form
    assert fingerprint(network.float(), values=False) != form
