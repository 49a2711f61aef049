from __future__ import annotations

import torch
from tests import tiny

from absentia.learn.build import build_method, patterns_seen
from absentia.models.backbone import FusedBackbone
from absentia.models.laid import Laid, lone_cls, whole_blanks

DATA = tiny.prepared()


def backbone_of() -> FusedBackbone:
    method = build_method("dropout", DATA.fitted, tiny.SMALL, seed=0, seen=patterns_seen(DATA.rows["train"].presence))
    backbone = method.backbone
    assert isinstance(backbone, FusedBackbone)
    return backbone.freeze()


def test_a_pass_takes_any_rows_with_any_part_of_what_they_have() -> None:
    backbone, batch = backbone_of(), tiny.everything(DATA)
    rows = torch.tensor([3, 0, 3, 11, 0])
    shown = (
        batch.presence[rows]
        & torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    )
    found = Laid.of(backbone, batch, {}).run(rows, shown)
    assert found.shape == (5, 4, tiny.SMALL.width)
    for number, row in enumerate(rows.tolist()):
        alone = batch.select(torch.arange(len(batch)) == row, DATA.names).restrict(shown[number], DATA.names)
        expected = backbone(alone).together
        for m, name in enumerate(DATA.names):
            if shown[number, m]:
                torch.testing.assert_close(found[number, m], expected[name][0], rtol=1e-5, atol=1e-6)
            else:
                assert not found[number, m].any()


def test_something_may_stand_in_an_absent_ones_place() -> None:
    backbone, batch = backbone_of(), tiny.everything(DATA)
    blanks = DATA.fitted.blanks()
    everyone = torch.arange(len(batch))
    fed = Laid.of(backbone, batch, whole_blanks(backbone, blanks)).run(everyone, batch.presence)
    expected = backbone(batch.filled(blanks)).together
    for m, name in enumerate(DATA.names):
        torch.testing.assert_close(fed[:, m], expected[name], rtol=1e-4, atol=1e-5)
    stand_ins = lone_cls(backbone)
    assert [stand_in.tokens.shape for stand_in in stand_ins.values()] == [(1, 1, tiny.SMALL.width)] * 4
    alone = Laid.of(backbone, batch, stand_ins).run(everyone, batch.presence)
    full, blind = batch.presence.all(dim=1), ~batch.presence[:, 0]
    torch.testing.assert_close(alone[full], fed[full], rtol=1e-4, atol=1e-5)
    assert (alone[blind] - fed[blind]).abs().amax(dim=(1, 2)).min() > 1e-4, "a black photo is seen"


def test_no_rows_and_nothing_to_show() -> None:
    backbone, batch = backbone_of(), tiny.everything(DATA)
    nobody = torch.zeros(0, dtype=torch.long)
    assert Laid.of(backbone, batch, {}).run(nobody, batch.presence[:0]).shape == (0, 4, tiny.SMALL.width)
