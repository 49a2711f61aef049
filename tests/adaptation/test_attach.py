from __future__ import annotations

from tests.adaptation.zoo import adapted, rows
from torch import Tensor, nn

import absentia


def reasons(name: str, **options: object) -> dict[str, str]:
    return {one.name: one.reason for one in adapted(name, **options).plan.left}


def test_what_is_left_out_says_why() -> None:
    assert reasons("words")["places"] == "the same for all rows, as an embedding of positions is"
    assert reasons("rows last")["norm"] == "never runs on the example"
    assert reasons("conv fusion", owners="rgb")["head"] == "belongs to fusion"
    assert reasons("conv fusion", kind="norm")["head"] == "kind norm learns nothing there"
    assert reasons("conv fusion", types=["conv"])["head"] == "a linear, which was not asked for"
    assert reasons("conv fusion", depth=1)["encoders.rgb.0"] == "deeper than 1"


def test_many_of_a_reason_are_one_line() -> None:
    lines = adapted("conv fusion", types=["conv"]).plan.lines()
    (line,) = [line for line in lines if "a norm" in line]
    assert "encoders.rgb.1 (BatchNorm2d)" in line and line.endswith("and 1 more")


def test_a_prefix_counts_more_than_what_the_example_shows() -> None:
    net = adapted("shared", modalities={"a": "first", "b": []}, exclude="head")
    assert [site.owner for site in net.bank.sites] == [None]
    net = adapted("dict", modalities={"a": ["a", "head"], "b": "b"})
    assert {s.name: s.owner for s in net.bank.sites} == {"a": "a", "b": "b", "head": "a"}


def test_the_head_that_runs_last_may_stand_first() -> None:
    class HeadFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.a, self.b = nn.Linear(4, 2), nn.Linear(3, 4), nn.Linear(3, 4)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.head(self.a(a) + self.b(b))

    example = rows("keywords")
    options = {"modalities": ["a", "b"], "kind": "head-only", "say": None}
    net = absentia.adapt(HeadFirst().double(), example=example, **options)  # type: ignore[arg-type]
    assert [site.name for site in net.bank.sites] == ["head"]
    net = absentia.adapt(HeadFirst().double(), head="head", **options)  # type: ignore[arg-type]
    assert [site.name for site in net.bank.sites] == ["head"]
