from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.adaptation.zoo import ZOO, adapted, animal, difference, hidden, mixed, numbers, patterns_of, rows, trained
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import absentia
from absentia.adaptation import Adapted
from absentia.errors import UserError

KINDS = ["scale-shift", "low-rank", "compositional", "shift"]
# Weights that require gradients, or a hook, make torch take other kernels for attention and recurrent layers.
LAST_BITS = 1e-12
pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(numbers(one), numbers(other), strict=True))


def call(run: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """With the same random numbers each time: a ViLT draws which patches it looks at."""
    torch.manual_seed(0)
    return run(**arguments)


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def unchanged(network: nn.Module, before: dict[str, Tensor]) -> bool:
    after = network.state_dict()
    return list(after) == list(before) and all(torch.equal(after[n], before[n]) for n in before)


def step(net: Adapted, arguments: dict[str, Any], presence: Tensor) -> dict[str, Tensor | None]:
    """The gradients of all adapters by name, of a mixed batch."""
    for parameter in net.adapters():
        parameter.grad = None
    with net.present(presence):
        torch.manual_seed(0)
        weights = torch.Generator().manual_seed(3)
        outputs = [t for t in numbers(net(**arguments)) if t.requires_grad]
        sum((t * torch.randn(t.shape, generator=weights, dtype=t.dtype)).sum() for t in outputs).backward()  # type: ignore[union-attr]
    named = [*net.bank.named_parameters(), *net.fillers.named_parameters()]
    return {name: None if p.grad is None else p.grad.clone() for name, p in named}


# --- what was never trained, and what has everything


@pytest.mark.parametrize("name", ZOO)
def test_untrained_adapters_change_nothing(name: str) -> None:
    net = adapted(name)
    arguments = rows(name)
    one = ZOO[name]
    for pattern in patterns_of(net):
        with net.present(pattern):
            with torch.no_grad():
                answer, base = call(net, arguments), call(net.base, arguments)
            assert difference(answer, base) < LAST_BITS if one.fused else same(answer, base)
            assert difference(call(net, arguments), call(net.base, arguments)) < LAST_BITS


@pytest.mark.parametrize("name", ZOO)
def test_rows_with_everything_are_answered_as_ever_by_trained_adapters_too(name: str) -> None:
    network = animal(name).eval()
    arguments = rows(name)
    bound = trained(adapted(name, network))
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            before = bound.plan.signature.call
            torch.manual_seed(0)
            expected = before(network, bound.plan.signature.bind([], arguments))
            assert same(call(bound, arguments), expected)


@pytest.mark.parametrize("name", ZOO)
def test_a_network_is_not_touched_by_training_and_is_given_back_as_it_was(name: str) -> None:
    network = animal(name).train()
    for module in list(network.modules())[-2:]:
        module.eval()
    next(network.parameters()).requires_grad_(False)
    modes = [module.training for module in network.modules()]
    wants = [parameter.requires_grad for parameter in network.parameters()]
    looks = repr(network), [type(m) for m in network.modules()], [list(vars(m)) for m in network.modules()]
    before = state_of(network)
    net = adapted(name, network)
    optimiser = torch.optim.SGD(list(net.adapters()), lr=0.01)
    for _ in range(2):
        net.train()
        optimiser.zero_grad()
        step(net, rows(name, 6), mixed(net, 6))
        optimiser.step()
    assert unchanged(network, before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules()) or name == "hooked"
    assert not any(p.requires_grad for p in network.parameters())
    assert net.detach() is network
    assert looks == (repr(network), [type(m) for m in network.modules()], [list(vars(m)) for m in network.modules()])
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == wants
    assert unchanged(network, before)


def test_adapting_draws_no_random_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    adapted("conv fusion", kind="low-rank")
    assert torch.equal(torch.rand(3), expected)


def test_only_adapters_learn_and_a_parent_may_set_the_mode() -> None:
    net = adapted("conv fusion")
    parent = nn.ModuleList([net]).train()
    assert {p for p in parent.parameters() if p.requires_grad} == set(net.adapters())
    assert net.training and not any(m.training for m in net.network.modules())
    assert not any(m.training for m in net.twin.modules())


def test_a_network_in_training_mode_is_refused_before_its_batch_norms_change() -> None:
    net = adapted("conv fusion")
    net.network.train()
    before = state_of(net.network)
    with pytest.raises(UserError, match="training mode"):
        net(**rows("conv fusion"))
    assert unchanged(net.network, before)


# --- several patterns in one batch


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in ZOO if name != "vilt"])
def test_one_pass_equals_pattern_by_pattern_with_all_gradients(name: str, kind: str) -> None:
    net = trained(adapted(name, kind=kind))
    assert net.gathers == ZOO[name].gathers or (kind == "low-rank" and "packed" in name)  # it leaves LSTMs alone
    arguments, presence = rows(name, 8), mixed(net, 8)[[0, 1, 2, 3, 0, 1, 2, 3]]
    with net.present(presence):
        together = net(**arguments)
    gradients = step(net, arguments, presence)
    net.mixing = "group"
    with net.present(presence):
        apart = net(**arguments)
        assert difference(together, apart) < 1e-12
    for i in range(8 if ZOO[name].gathers else 0):
        mine = [t[i : i + 1] for t in numbers(together)]
        assert difference(mine, rows_of_one(net, arguments, presence, i)) < 1e-12
    for key, expected in step(net, arguments, presence).items():
        found = gradients[key]
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert float((found - expected).abs().max()) <= 1e-11 * max(1.0, float(expected.abs().max())), key


def rows_of_one(net: Adapted, arguments: dict[str, Any], presence: Tensor, row: int) -> Any:
    given = {
        name: [v[row : row + 1] for v in value]
        if isinstance(value, list)
        else {k: v[row : row + 1] for k, v in value.items()}
        if isinstance(value, dict)
        else value[row : row + 1]
        if isinstance(value, Tensor)
        else value
        for name, value in arguments.items()
    }
    with net.present(presence[row : row + 1]):
        return net(**given)


@pytest.mark.parametrize("kind", ["scale-shift", "low-rank:2"])
def test_a_vilt_gathers_what_it_would_answer_pattern_by_pattern(kind: str) -> None:
    net = trained(adapted("vilt", kind=kind), 0.05)
    arguments, presence = rows("vilt", 4), mixed(net, 4)
    assert net.gathers
    with net.present(presence), torch.no_grad():
        together = net(**arguments)
        net.mixing = "group"
        assert difference(together, net(**arguments)) < 1e-9


def test_without_an_example_rows_run_pattern_by_pattern() -> None:
    network = animal("windows")
    one = absentia.adapt(network, modalities=["a", "b"], patterns="all", say=None, inputs={"a": "a", "b": "b"})
    assert not one.gathers and "example" in one.plan.why_not
    two = adapted("windows")
    two.bank.load_state_dict(trained(one).bank.state_dict(), strict=False)
    with pytest.raises(UserError, match="example= would show"):
        one.mixing = "gather"
        with one.present(mixed(one)):
            one(**rows("windows"))


@pytest.mark.parametrize("name", ["windows", "frames"])
def test_other_numbers_of_windows_than_in_the_example_run_apart_unless_gathering_is_asked_for(name: str) -> None:
    net = trained(adapted(name))
    arguments = {k: v.repeat(1, 2, 1, 1) for k, v in rows(name).items()}
    with net.present(mixed(net)):
        expected = net(**arguments)
        net.mixing = "group"
        assert same(net(**arguments), expected)
        net.mixing = "gather"
        assert difference(net(**arguments), expected) < 1e-12


def test_one_window_in_the_example_does_not_say_in_which_order_several_stand() -> None:
    example = {k: v[:, :1] for k, v in rows("frames").items()}
    net = trained(adapted("frames", example=example))
    assert net.gathers
    with net.present(mixed(net)):
        expected = net(**rows("frames"))
        net.mixing = "group"
        assert same(net(**rows("frames")), expected)
        net.mixing = "gather"
        with pytest.raises(UserError, match="unlike in the example"):
            net(**rows("frames"))


@pytest.mark.parametrize("example", [True, False])
def test_an_output_whose_rows_are_not_in_front_is_put_together_right_or_not_at_all(example: bool) -> None:
    class States(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 4, num_layers=2, batch_first=True)

        def forward(self, a: Tensor, b: Tensor) -> Any:
            return self.rnn(a + b)

    x = torch.randn(6, 5, 3)
    given = {"a": x, "b": x.flip(0)}
    net = absentia.adapt(States(), modalities=["a", "b"], say=None, example=given if example else None, mixing="group")
    presence = torch.tensor([[True, True], [True, False]] * 3)
    with net.present(presence):
        if example:
            net.mixing = "auto"
            expected = trained(net)(**given)
            net.mixing = "group"
            assert difference(net(**given), expected) < 1e-5
        else:
            with pytest.raises(UserError, match=r"\(2, 3, 4\) has no row for each of its 3 inputs"):
                net(**given)


def test_rows_that_show_in_each_others_answers_are_gathered_only_if_asked_for() -> None:
    net = trained(adapted("mixing at the end", mixing="gather"))
    with net.present(mixed(net)):
        one = net(**rows("mixing at the end"))
        net.mixing = "auto"
        assert difference(one, net(**rows("mixing at the end"))) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["conv fusion", "lstm", "attention", "windows", "words", "three"])
def test_patterns_of_a_batch_get_gradients_everywhere_and_others_none(name: str, kind: str) -> None:
    net = trained(adapted(name, kind=kind))
    shown = patterns_of(net)[-1]
    absent = net.names[0] if kind == "compositional" else None
    presence = torch.tensor([[n in shown.split("+") for n in net.names]]).expand(4, -1)
    gradients = step(net, rows(name, 4), presence)
    for number, set_name in enumerate(net.bank.set_names):
        mine = set_name == (f"-{absent}" if absent else shown)
        for site in net.bank.sites:
            row = int(net.bank.rows[site.name][number])
            for value_name in net.bank.raw(site) if row >= 0 else ():
                found = next(
                    g
                    for (k, g), p in zip(gradients.items(), net.bank.parameters(), strict=False)
                    if p is net.bank.raw(site)[value_name]
                )
                zero = found is None or not bool(found[row].abs().any())
                assert zero != mine or (mine and not needed(net, site.name, value_name)), (set_name, site.name)


def needed(net: Adapted, site: str, value: str) -> bool:
    """Whether a value can move the output at all: a shift of the keys moves no attention."""
    return not (value == "shift" and "in_proj" in site)


# --- what is absent


@pytest.mark.parametrize("strange", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("name", ["conv fusion", "encoder, relu", "lstm", "words", "list", "channels", "vilt", "tied"])
def test_what_stands_in_absent_inputs_reaches_neither_answers_nor_gradients(name: str, strange: float) -> None:
    net = trained(adapted(name), 0.05)
    clean, presence = rows(name), mixed(net)
    poisoned = hidden(net, clean, presence, strange)
    with net.present(presence):
        assert same(call(net, clean), call(net, poisoned))
        assert same(call(net.base, clean), call(net.base, poisoned))
    for one, two in zip(step(net, clean, presence).values(), step(net, poisoned, presence).values(), strict=True):
        assert (one is None and two is None) or torch.equal(one, two)  # type: ignore[arg-type]


@pytest.mark.parametrize("filler", ["zeros", "learned", 0.5, "tensor", "mean"])
def test_gradients_of_hidden_inputs_are_zero_and_none_is_the_same_as_hidden(filler: Any) -> None:
    given = {"a": torch.full((3,), 0.25, dtype=torch.float64) if filler == "tensor" else filler}
    net = trained(adapted("keywords", filler=given))
    arguments = rows("keywords")
    if filler == "mean":
        net.measure([(arguments, torch.zeros(5))])
    poisoned = torch.full_like(arguments["a"], float("nan")).requires_grad_()
    with net.present("b"):
        answer = net(a=poisoned, b=arguments["b"])
    answer.sum().backward()
    assert poisoned.grad is None or not bool(poisoned.grad.abs().nan_to_num(nan=1.0).any())
    assert same(answer, net(a=None, b=arguments["b"]))
    assert bool(answer.isfinite().all())


def test_skip_hands_the_network_none() -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 3), nn.Linear(2, 3)
            self.asked: list[bool] = []

        def forward(self, a: Tensor | None, b: Tensor | None) -> Tensor:
            self.asked.append(a is None)
            return sum(f(x) for f, x in ((self.a, a), (self.b, b)) if x is not None)  # type: ignore[return-value]

    x = torch.randn(4, 2)
    net = absentia.adapt(Optional(), modalities=["a", "b"], filler={"a": "skip"}, example={"a": x, "b": x}, say=None)
    assert not net.gathers
    presence = torch.tensor([[False, True], [True, True], [False, True], [True, False]])
    with net.present(presence):
        answer, base = net(a=x, b=x), net.base(a=x, b=x)
    assert torch.equal(answer[1], net.network(x, x)[1]) and torch.equal(base[0], net.network.b(x)[0])
    assert difference(answer, base) < 1e-6
    with pytest.raises(UserError, match="skip"):
        net.mixing = "gather"
        with net.present(presence):
            net(a=x, b=x)


def test_an_optional_mask_that_a_call_does_without_is_not_invented_for_rows_that_are_there() -> None:
    net = trained(adapted("vilt"), 0.05)
    arguments = rows("vilt", 4)
    without = {**arguments, "attention_mask": None}
    presence = torch.tensor([[True, True], [False, True], [True, False], [True, True]])
    with net.present(presence), torch.no_grad():
        one, two = call(net, arguments), call(net, without)
    assert difference(one[[0, 2, 3]], two[[0, 2, 3]]) < 1e-9


# --- who asks, and from where


def test_two_threads_run_different_patterns_at_once() -> None:
    net = trained(adapted("conv fusion"))
    arguments = rows("conv fusion")
    expected = {}
    for pattern in ("rgb", "depth", "rgb+depth"):
        with net.present(pattern):
            expected[pattern] = net(**arguments).detach()
    wrong: list[str] = []
    gate = threading.Barrier(3)

    def work(pattern: str) -> None:
        gate.wait()
        for _ in range(20):
            with net.present(pattern):
                if not torch.equal(net(**arguments).detach(), expected[pattern]):
                    wrong.append(pattern)

    threads = [threading.Thread(target=work, args=(pattern,)) for pattern in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_present_is_of_one_network_and_ends_with_its_block() -> None:
    one, two = trained(adapted("keywords")), trained(adapted("keywords"))
    arguments = rows("keywords")
    full = two(**arguments)
    with one.present("a"), pytest.raises(ZeroDivisionError), one.present("b"):
        assert torch.equal(two(**arguments), full)
        raise ZeroDivisionError
    assert torch.equal(one(**arguments), full)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.a, self.b, self.inner, self.head = (nn.Linear(*s) for s in ((3, 4), (2, 4), (4, 4), (4, 2)))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x = self.a(a) + self.b(b)
        return self.head(checkpoint(self.inner, x.tanh(), use_reentrant=self.reentrant))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_inside_a_network_is_an_error_and_not_silently_wrong(reentrant: bool) -> None:
    a, b = torch.randn(4, 3), torch.randn(4, 2)
    net = absentia.adapt(Checkpointed(reentrant), modalities=["a", "b"], say=None)
    with net.present("a"):
        answer = net(a=a, b=b)
    with pytest.raises(UserError, match="checkpointing"):
        answer.sum().backward()


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_a_whole_adapted_network_is_right_or_an_error(reentrant: bool) -> None:
    net = trained(adapted("keywords"))
    arguments = rows("keywords")
    a = arguments["a"].requires_grad_()
    net(a=a, b=None).sum().backward()
    expected = [p.grad.clone() for p in net.adapters() if p.grad is not None]
    net.zero_grad()
    checkpoint(lambda x: net(a=x, b=None), a, use_reentrant=reentrant).sum().backward()  # type: ignore[no-untyped-call]
    assert expected and all(map(torch.equal, expected, (p.grad for p in net.adapters() if p.grad is not None)))
    with net.present("a"):
        answer = checkpoint(lambda x: net(a=x, b=arguments["b"]), a, use_reentrant=reentrant)  # type: ignore[no-untyped-call]
    with pytest.raises(UserError, match="backward run within it"):
        answer.sum().backward()


class Threaded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        found: list[Any] = []

        def work() -> None:
            try:
                found.append(self.a(a + b))
            except UserError as error:
                found.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if isinstance(found[0], UserError):
            raise found[0]
        return self.head(found[0])


def test_a_network_with_threads_of_its_own_is_an_error_and_not_silently_wrong() -> None:
    x = torch.randn(4, 3)
    net = absentia.adapt(Threaded(), modalities=["a", "b"], say=None)
    with net.present("a"), pytest.raises(UserError, match="another thread"):
        net(a=x, b=x)


# --- copies, types, devices


@pytest.mark.parametrize("name", ["conv fusion", "encoder, padding", "lstm", "attention", "shared", "computed", "vilt"])
def test_a_deep_copy_stands_alone(name: str) -> None:
    net = trained(adapted(name), 0.1)
    arguments = rows(name)
    with net.present(patterns_of(net)[0]):
        expected = call(net, arguments)
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter += 0.1
    with net.present(patterns_of(net)[0]):
        assert same(call(net, arguments), expected)
    with twin.present(patterns_of(net)[0]):
        assert difference(call(twin, arguments), expected) > 1e-4
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in net.parameters()}
    shared = {id(p) for p in twin.network.parameters()}
    assert {id(p) for p in twin.twin.parameters()} == shared


@pytest.mark.parametrize("kind", ["scale-shift", "low-rank", "compositional"])
@pytest.mark.parametrize("name", ["conv fusion", "lstm", "encoder, relu", "norms"])
def test_autocast_to_half_precision_works(name: str, kind: str) -> None:
    net = adapted(name, kind=kind).float()
    trained(net, 0.1)
    arguments = {k: v.float() if v.is_floating_point() else v for k, v in rows(name).items()}
    with net.present(mixed(net)):
        expected = numbers(net(**arguments))[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = numbers(net(**arguments))[0]
            answer.float().sum().backward()
            with torch.inference_mode():
                assert torch.allclose(numbers(net(**arguments))[0].float(), answer.float(), rtol=0.1, atol=0.1)
    assert torch.allclose(answer.float(), expected, rtol=0.1, atol=0.1)
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in net.adapters())


@pytest.mark.parametrize("name", ["conv fusion", "lstm", "encoder, relu"])
def test_a_move_to_another_type_moves_everything(name: str) -> None:
    net = trained(adapted(name), 0.1)
    arguments = rows(name)
    with net.present(patterns_of(net)[0]):
        expected = net(**arguments)
        net.float()
        answer = net(**{k: v.float() for k, v in arguments.items()})
    assert all(t.dtype == torch.float32 for t in numbers(answer))
    assert difference([t.double() for t in numbers(answer)], expected) < 1e-4
    assert {p.dtype for p in net.adapters()} == {torch.float32}


def test_a_move_or_a_load_of_the_network_itself_is_seen_by_the_adapters() -> None:
    network = animal("conv fusion")
    net = trained(adapted("conv fusion", network), 0.1)
    network.float()
    arguments = {k: v.float() for k, v in rows("conv fusion").items()}
    with net.present("rgb"):
        before = net(**arguments)
        assert before.dtype == torch.float32
        network.load_state_dict(animal("conv fusion", seed=1).float().state_dict(), assign=True)
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        after = net(**arguments)
        assert difference(before, after) > 1e-3
        assert difference(net.merge("rgb")(arguments["rgb"], torch.zeros_like(arguments["depth"])), after) < 1e-5


# --- bad calls


def test_an_empty_batch_is_answered_as_the_network_answers_it() -> None:
    net = adapted("keywords")
    answer = net(a=torch.zeros(0, 3, dtype=torch.float64), b=torch.zeros(0, 3, dtype=torch.float64))
    assert answer.shape == (0, 2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"a": None, "b": None}, "every modality is None"),
        ({"a": torch.zeros(4, 3)}, "'b' was not given; say b=None if it is absent"),
        ({"a": torch.zeros(4, 3), "b": torch.zeros(5, 3)}, "different numbers of rows: a 4, b 5"),
        ({"a": torch.zeros(4, 3), "b": torch.tensor(1.0)}, "b is a single number"),
        ({"a": torch.zeros(4, 3), "b": [1.0, 2.0]}, "b is a list"),
        ({"a": torch.zeros(4, 3).numpy(), "b": None}, "a is a ndarray"),
        ({"a": torch.zeros(4, 3), "b": None, "c": None}, "was called otherwise"),
    ],
)
def test_a_wrong_call_is_one_clear_error(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        adapted("keywords")(**given)


@pytest.mark.parametrize(
    ("present", "words"),
    [
        (torch.ones(5, 2), r"expected bool \(5, 2\), rows by a, b, not float32 \(5, 2\)"),
        (torch.ones(4, 2, dtype=torch.bool), r"not bool \(4, 2\)"),
        (torch.zeros(5, 2, dtype=torch.bool), "row 0 has nothing present"),
        ("c", "unknown modality 'c'"),
        ("", "unknown modality ''"),
        (set(), "nothing present"),
        (3, "expected names of modalities"),
        ({"a": True}, "nothing is said about 'b'"),
        ({"a": True, "b": True, "bb": False}, "unknown modality 'bb'; did you mean 'b'"),
        ({"a": True, "b": torch.ones(5)}, "'b' is float32"),
        ({"a": True, "b": torch.ones(3, dtype=torch.bool)}, r"expected a bool, or bool \(5,\)"),
    ],
)
def test_a_wrong_mask_is_one_clear_error(present: Any, words: str) -> None:
    net = adapted("keywords")
    with pytest.raises(UserError, match=words), net.present(present):
        net(**rows("keywords"))


def test_masks_may_be_written_in_several_ways() -> None:
    net = trained(adapted("keywords"))
    mask = torch.tensor([[True, False]] * 5)
    column = torch.ones(5, dtype=torch.bool)
    answers = []
    for given in (mask, mask[0], mask.numpy(), "a", {"a"}, ["a"], {"a": True, "b": False}, {"a": column, "b": ~column}):
        with net.present(given):
            answers.append(net(**rows("keywords")))
    assert all(torch.equal(answers[0], other) for other in answers)


def test_another_network_answers_rows_of_its_pattern_in_a_mixed_batch() -> None:
    net, other = trained(adapted("keywords")), animal("keywords", seed=9)
    arguments, presence = rows("keywords"), torch.tensor([[True, True], [True, False], [False, True]] * 2)[:5]
    with net.present(presence):
        before = net(**arguments)
        net.use("a", other)
        after = net(**arguments)
    mine = (presence == torch.tensor([True, False])).all(dim=1)
    assert bool(mine.any())
    assert difference(before[~mine], after[~mine]) < 1e-12
    filled = {"a": arguments["a"][mine], "b": torch.zeros_like(arguments["b"][mine])}
    assert difference(after[mine], other(**filled)) < 1e-12
    with pytest.raises(UserError, match="merge that one"):
        net.merge("a")
    with pytest.raises(UserError, match="did you mean"):
        net.use("aa", other)
    with pytest.raises(UserError, match="that answers 'a', not a int"):
        net.use("a", 3)  # type: ignore[arg-type]


def test_a_network_that_was_adapted_twice_is_free_again_whoever_detaches_first() -> None:
    for turn in (1, -1):
        network = animal("keywords")
        for net in [adapted("keywords", network) for _ in range(2)][::turn]:
            net.detach()
        assert all(p.requires_grad for p in network.parameters())


# --- learning


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("patterns", "shown"), [(["a"], [[True, False]] * 5), ("all", [[True, False], [False, True]])])
def test_distributed_training_finds_no_parameter_without_a_gradient(
    patterns: Any, shown: list[list[bool]], one_process: None
) -> None:
    net = adapted("keywords", patterns=patterns).train()
    spread = nn.parallel.DistributedDataParallel(net)
    for _ in range(3):
        with net.present(torch.tensor(shown)):
            numbers(spread(**rows("keywords", len(shown))))[0].sum().backward()
    assert all(p.grad is not None for p in net.adapters() if p.numel())


@pytest.mark.parametrize(("weight_a", "weight_b", "c"), [(1.0, 2.0, 0.5), (0.5, -1.0, 1.5)])
def test_the_best_scale_is_learned_where_it_is_known_in_closed_form(weight_a: float, weight_b: float, c: float) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
            self.a.weight.data.fill_(weight_a), self.b.weight.data.fill_(weight_b)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.a(a) + self.b(b)

    draw = torch.Generator().manual_seed(0)
    a = torch.randn(64, 1, generator=draw)
    target = weight_a * a + weight_b * c * a
    net = absentia.adapt(Sum(), modalities={"a": "a", "b": "b"}, patterns=["a"], say=None)
    optimiser = torch.optim.SGD(list(net.adapters()), lr=0.2)
    for _ in range(200):
        optimiser.zero_grad()
        with net.present("a"):
            nn.functional.mse_loss(net(a=a, b=c * a), target).backward()
        optimiser.step()
    site = next(site for site in net.bank.sites if site.name == "a")
    assert 1 + net.bank.raw(site)["scale"].item() == pytest.approx((weight_a + c * weight_b) / weight_a, abs=1e-3)
    assert net.bank.raw(site)["shift"].item() == pytest.approx(0, abs=1e-3)
