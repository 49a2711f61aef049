from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import tiny
from tests.poison import packed_tokens
from torch import Tensor

from absentia.data.batch import Batch
from absentia.data.memo import Memo
from absentia.errors import UserError
from absentia.learn.prepare import Prepared
from absentia.methods import Stage
from absentia.methods.rebq import RebQ
from absentia.models.fused import Prompts, Segment

PAIR = ("words", "facts")
DEEP = replace(tiny.SMALL, depth=4)


@pytest.fixture(scope="module")
def data() -> Prepared:
    return tiny.prepared()


@pytest.fixture(scope="module")
def pair() -> Prepared:
    return tiny.prepared(names=PAIR)


def rebq(data: Prepared, sessions: int = 1, **options: Any) -> RebQ:
    method = tiny.method_of("rebq", data, model=DEEP, options={"components": 3, "length": 4, **options})
    assert isinstance(method, RebQ)
    for number in range(1, sessions):
        method.open_session(wider(data, number))
    return method.eval()


def wider(data: Prepared, by: int) -> Any:
    codec = data.fitted.codec
    classes = (*codec.target.classes, *(f"more-{number}" for number in range(by)))
    return replace(codec, target=replace(codec.target, classes=classes), prior=(1 / len(classes),) * len(classes))


def rows_of(data: Prepared, *, memo: bool = False) -> Batch:
    batch = tiny.everything(data)
    batch = batch.select(~batch.empty, data.names)
    return replace(batch, memo=Memo(len(data.rows["train"]), data.rows["train"].batch) if memo else None)


def losses(method: RebQ, batch: Batch, draw: int = 0) -> dict[str, Tensor]:
    return method.losses(batch, Stage(), torch.Generator().manual_seed(draw))


# --- the same in words: one row after the other, one modality after the other


def one_row(method: RebQ, batch: Batch, row: int) -> tuple[dict[str, Tensor], Batch]:
    """The queries of what a row has, and the row."""
    alone = batch.select(torch.arange(len(batch)) == row, method.parts.names)
    return {name: q[0] for name, q in method.backbone(alone).together.items()}, alone


def read(method: RebQ, alone: Batch, prompts: Prompts) -> dict[str, Tensor]:
    """The [CLS] outputs of all modalities of one row, the absent ones as their [CLS] alone."""
    first, own = torch.zeros(1, dtype=torch.long), method.backbone.segments(alone)
    segments = []
    for name in method.parts.names:
        cls = method.backbone.embedder(name).cls()[None, None]  # type: ignore[operator]
        segments.append(own.get(name, Segment(cls, torch.ones(1, 1).bool(), first)))
    output = method.backbone.transformer(segments, 1, prompts)
    return {name: output.cls(number)[0] for number, name in enumerate(method.parts.names)}


def remembered(method: RebQ, alone: Batch, queries: dict[str, Tensor]) -> dict[str, Tensor]:
    memory = torch.stack([method.memory(q[None]) for q in queries.values()]).sum(0)
    return read(method, alone, Prompts(inserted=memory))


def answered(method: RebQ, alone: Batch, queries: dict[str, Tensor]) -> dict[str, Tensor]:
    keys, values = [], []
    for name in method.parts.names:
        prompt = method.pools[f"m_{name}"](queries[name][None])
        keys.append(prompt[:, :, : prompt.shape[2] // 2])
        values.append(prompt[:, :, prompt.shape[2] // 2 :])
    return read(method, alone, Prompts(keys=torch.cat(keys, 2), values=torch.cat(values, 2)))


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"reads": "first", "selection": "softmax"}, {"selection": "top", "top": 2}])
@pytest.mark.parametrize("sessions", [1, 3])
def test_answers_are_those_in_words(data: Prepared, options: dict[str, Any], sessions: int) -> None:
    method, batch = rebq(data, sessions, **options), rows_of(data)
    found = method(batch)
    made = {name: iter(rows) for name, rows in found.reconstructed.items()}
    seen = {name: iter(rows) for name, rows in found.embeddings.items()}
    for row in range(len(batch)):
        queries, alone = one_row(method, batch, row)
        whole = remembered(method, alone, queries) | queries
        outputs = answered(method, alone, whole)
        features = torch.stack(list(outputs.values()))
        features = features[0] if options.get("reads") == "first" else features.mean(0)
        torch.testing.assert_close(found.scores[row], method.classifier(features[None])[0], rtol=1e-4, atol=1e-5)
        for name in data.names:
            expected, stored = (outputs, seen) if name in queries else (whole, made)
            torch.testing.assert_close(next(stored[name]), expected[name], rtol=1e-4, atol=1e-5)
    assert not any(list(rows) for rows in (*made.values(), *seen.values()))


@pytest.mark.parametrize("names", [PAIR, ("photo", "words", "facts")])
def test_reconstruction_is_learned_from_rows_with_a_part_hidden(names: tuple[str, ...]) -> None:
    data = tiny.prepared(names=names)
    method, batch = rebq(data, alpha=0.5), rows_of(data)
    pairs = []
    with torch.no_grad():
        for row in range(len(batch)):
            queries, alone = one_row(method, batch, row)
            whole = remembered(method, alone, queries)
            for name in queries if len(queries) > 1 else ():
                part = alone.restrict(torch.tensor([n != name for n in names]), names)
                shown = {n: q[0] for n, q in method.backbone(part).together.items()}
                made = remembered(method, part, shown)
                pairs.append((row, name, float((made[name] - whole[name]).square().mean())))
    found = [float(losses(method, batch, draw)["reconstruction"].detach()) / 0.5 for draw in range(60)]
    if len(names) == 2:
        expected = sum(value for _, _, value in pairs) / len(pairs)
        assert found == pytest.approx([expected] * 60, rel=1e-4), "each of two is hidden in turn"
    else:
        by_row: dict[int, list[float]] = {}
        for row, _, value in pairs:
            by_row.setdefault(row, []).append(value)
        means = [sum(values) / len(values) for values in by_row.values()]
        assert len(set(found)) > 50, "one of three is drawn"
        assert sum(found) / 60 == pytest.approx(sum(means) / len(means), rel=0.05)


def test_several_hides_more_than_one(data: Prepared) -> None:
    method, batch = rebq(data, several=True), rows_of(data, memo=True)
    hidden = method._hidden(batch, torch.Generator().manual_seed(0))
    gone = batch.presence[hidden.rows].sum(1) - hidden.shown.sum(1)
    assert set(gone.tolist()) == {1, 2, 3} and hidden.shown.any(1).all()
    assert torch.isfinite(torch.stack(list(losses(method, batch).values()))).all()


# --- who learns from what


def reached(method: RebQ, terms: Sequence[Tensor]) -> set[str]:
    method.zero_grad(set_to_none=True)
    torch.stack(list(terms)).sum().backward()
    return {name.partition(".")[0] for name, p in method.named_parameters() if p.grad is not None and p.grad.any()}


def test_each_loss_reaches_what_it_is_for(pair: Prepared) -> None:
    method, batch = rebq(pair), rows_of(pair)
    full = batch.select(batch.presence.all(1), pair.names)
    lacking = batch.select(~batch.presence.all(1), pair.names)
    terms = losses(method, full)
    assert reached(method, [terms["reconstruction"]]) == {"memory"}
    assert reached(method, [losses(method, full)["task"]]) == {"pools", "classifier"}
    assert reached(method, [losses(method, lacking)["task"]]) == {"memory", "pools", "classifier"}
    assert losses(method, lacking).keys() == {"task"}, "no row has two"


def test_the_backbone_never_learns_nor_drops(pair: Prepared) -> None:
    method, batch = rebq(pair).train(), rows_of(pair)
    assert not method.backbone.training and method.memory.training
    one, other = (losses(method, batch) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not [name for name in method.learned() if name.startswith("backbone")]
    assert not [name for name, p in method.named_parameters() if name.startswith("backbone") and p.requires_grad]


def test_released_sessions_are_dead_and_intended_ones_are_not(pair: Prepared) -> None:
    for variant, alive in (("released", {"classifier"}), ("intended", {"classifier", "memory", "pools"})):
        method, batch = rebq(pair, 2, variant=variant), rows_of(pair)
        with torch.no_grad():  # a classifier that already tells classes apart
            method.classifier.blocks[-1].weight.normal_()  # type: ignore[operator, union-attr]
        batch = replace(batch, target=torch.full((len(batch),), 3))
        method.taught[:] = True
        assert reached(method, list(losses(method, batch).values())) == alive


def test_the_penalty_is_weighed_in(pair: Prepared) -> None:
    method, batch = rebq(pair, orthogonal=0.5), rows_of(pair)
    expected = 0.5 * sum(pool.penalty() for pool in (method.memory, *method.pools.values()))  # type: ignore[operator]
    torch.testing.assert_close(losses(method, batch)["orthogonal"], expected)


# --- what is computed, and how often


def test_a_later_step_reads_each_row_as_often_as_it_must(pair: Prepared) -> None:
    method, batch = rebq(pair), rows_of(pair, memo=True)
    losses(method, batch)
    with packed_tokens() as passes:
        losses(method, batch)
    assert len(passes) == 3, "behind memory prompts with and without gradient, and the answer"
    with packed_tokens() as passes:
        method(batch)
    assert len(passes) == 2
    with packed_tokens() as passes:
        method(batch.select(batch.presence.all(1), pair.names))
    assert len(passes) == 1, "complete rows have all their queries"


def test_drawn_parts_are_kept_too(data: Prepared) -> None:
    method, batch = rebq(data), rows_of(data, memo=True)
    for draw in range(30):
        losses(method, batch, draw)
    for draw in range(5):
        with packed_tokens() as passes:
            losses(method, batch, draw)
        assert len(passes) == 3


def test_without_prompts_a_row_is_read_once(data: Prepared) -> None:
    method, batch = rebq(data, prompts=False), rows_of(data, memo=True)
    losses(method, batch)
    with packed_tokens() as passes:
        found = losses(method, batch)
        output = method(batch)
    assert not passes and found.keys() == {"task"} and not output.reconstructed
    assert {name.partition(".")[0] for name in method.learned()} == {"classifier", "prior"}
    alone = one_row(method, batch, 0)[1]
    torch.testing.assert_close(method(alone).scores, output.scores[:1])


def test_what_is_kept_belongs_to_the_weights_and_the_way_of_reading(pair: Prepared) -> None:
    batch = rows_of(pair, memo=True)
    method, same, fed = rebq(pair), rebq(pair), rebq(pair, absent="placeholder")
    first = method.reader.queries(batch)
    with packed_tokens() as passes:
        assert torch.equal(same.reader.queries(batch), first)
    assert not passes, "the same frozen weights"
    other = tiny.method_of("rebq", pair, model=replace(DEEP, mlp=2))
    assert isinstance(other, RebQ)
    assert not torch.equal(other.reader.queries(batch), first)
    assert not torch.equal(fed.reader.queries(batch), first)


# --- placeholders


def test_placeholders_are_read_as_if_they_were_there(pair: Prepared) -> None:
    method, batch = rebq(pair, absent="placeholder"), rows_of(pair)
    filled = batch.filled(method.parts.blanks)
    expected = method.backbone(filled).together
    queries = method.reader.queries(batch)
    for m, name in enumerate(pair.names):
        there = batch.presence[:, m]
        torch.testing.assert_close(queries[there, m], expected[name][there], rtol=1e-4, atol=1e-5)
        assert not queries[~there, m].any()
    read, joined = method.passes(batch.presence)
    assert read.tolist() == [3 - int(full) for full in batch.presence.all(1)]
    with packed_tokens() as passes:
        method(batch)
    with packed_tokens() as own:
        for number in (1, 2, 3):
            method.backbone(batch.select(read >= number, pair.names))
    assert sum(passes) == sum(own) + int(joined.sum())


# --- precision, sessions, what can be looked into


def test_bfloat16_trains(pair: Prepared, tmp_path: Path) -> None:
    method, batch = rebq(pair), rows_of(pair)
    plain = losses(method, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        blunt = losses(method, batch)
    for name in plain:
        torch.testing.assert_close(blunt[name].float(), plain[name], rtol=0.1, atol=0.02)
    settings = replace(tiny.BRIEF, precision="bf16")
    tiny.loop_of(method, pair, tmp_path, settings=settings).fit()
    assert all(torch.isfinite(tensor).all() for tensor in method.learned().values())


def test_sessions_add_and_change_nothing_that_is_there(pair: Prepared, tmp_path: Path) -> None:
    method, kept = rebq(pair), dict[str, Tensor]()
    for number in (1, 2, 3):
        method.open_session(wider(pair, number))
        before = {name: tensor.clone() for name, tensor in method.learned().items()}
        rows = replace_target(rows_of(pair), 2 + number)
        torch.stack(list(losses(method, rows).values())).sum().backward()
        torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=0.1).step()
        after = method.learned()
        assert all(torch.equal(after[name], tensor) for name, tensor in kept.items())
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved and all(f".{number}." in name for name in moved)
        kept = {name: tensor.clone() for name, tensor in after.items() if name != "prior"}


def replace_target(batch: Batch, number: int) -> Batch:
    return replace(batch, target=torch.full((len(batch),), number))


def test_what_can_be_looked_into(data: Prepared) -> None:
    method, batch = rebq(data, 2), rows_of(data)
    full = int(batch.presence.all(1).sum())
    found = method.reconstructions(batch)
    assert list(found) == data.names
    assert all(true.shape == made.shape == (full, DEEP.width) for true, made in found.values())
    queries, alone = one_row(method, batch, int(batch.presence.all(1).nonzero()[0]))
    part = alone.restrict(torch.arange(4) != 0, data.names)
    torch.testing.assert_close(found["photo"][0][0], queries["photo"])
    torch.testing.assert_close(found["photo"][1][0], method(part).reconstructed["photo"][0])
    shares = method.usage(batch)
    assert list(shares) == ["memory", *data.names] and all(part.shape == (2,) for part in shares.values())
    lacking = batch.select(~batch.presence.all(1), data.names)
    assert method.reconstructions(lacking) == {}
    plain = rebq(data, prompts=False)
    assert plain.reconstructions(batch) == plain.usage(batch) == {}


def test_remarks_say_when_there_is_nothing_to_learn_from(data: Prepared, pair: Prepared) -> None:
    presence = data.rows["train"].presence
    assert rebq(data).remarks(presence) == []
    alone = presence & (presence.cumsum(axis=1) == 1)
    assert "nothing to learn reconstruction from" in rebq(data).remarks(alone)[0]
    assert rebq(data, prompts=False).remarks(alone) == []


def test_one_modality_is_enough() -> None:
    data = tiny.prepared(names=("words",))
    method, batch = rebq(data), rows_of(data)
    assert losses(method, batch).keys() == {"task"}
    assert method(batch).reconstructed == {} and method.reconstructions(batch) == {}
    assert method.remarks(data.rows["train"].presence) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "intendet"}, "options.variant 'intendet'.*intended"),
        ({"absent": "placeholders"}, "options.absent 'placeholders'.*placeholder"),
        ({"reads": "text"}, "options.reads 'text'"),
        ({"head": "gausian"}, "options.head 'gausian'.*gaussian"),
        ({"queries": "standard"}, "options.queries 'standard'.*standardised"),
        ({"selection": "softmaxx"}, "softmax"),
        ({"components": 0}, "options.components 0: must be at least 1"),
        ({"length": 5}, "must be even"),
        ({"layers": 0}, "options.layers 0: must be at least 1"),
        ({"layers": 5}, "options.layers 5: the backbone has only 4"),
        ({"alpha": -1.0}, "options.alpha -1"),
        ({"lenght": 4}, "unknown key 'options.lenght'.*length"),
    ],
)
def test_bad_options_are_refused_by_name(pair: Prepared, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rebq(pair, **options)


def test_two_thirds_of_the_layers_are_prompted_unless_said_otherwise(pair: Prepared) -> None:
    assert rebq(pair).memory.layers == 3 and rebq(pair, layers=4).memory.layers == 4
    assert tiny.method_of("rebq", pair).memory.layers == 1  # type: ignore[union-attr]


# --- heads that add up


def streamed(data: Prepared, orders: Sequence[Tensor], **options: Any) -> RebQ:
    """Sessions of the same classes that close on these rows, the prompts as they were made."""
    method, batch = rebq(data, **options), rows_of(data)
    for number, rows in enumerate(orders):
        if number:
            method.open_session(data.fitted.codec)
        method.close_session(lambda rows=rows: iter([batch.select(rows, data.names)]))  # type: ignore[misc]
    return method


ADDING_UP = [{"head": "ridge"}, {"head": "gaussian", "variant": "released"}]


@pytest.mark.parametrize("options", ADDING_UP)
def test_heads_answer_the_same_in_any_order_of_sessions(data: Prepared, options: dict[str, Any]) -> None:
    batch = rows_of(data)
    some = torch.arange(len(batch)) % 3 == 0
    one, other, whole = (streamed(data, order, **options) for order in ([some, ~some], [~some, some], [some | ~some]))
    expected = whole(batch).scores
    torch.testing.assert_close(one(batch).scores, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(other(batch).scores, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("options", ADDING_UP)
def test_prompts_stand_still_once_rows_are_counted(data: Prepared, options: dict[str, Any]) -> None:
    method = rebq(data, **options)
    assert len(method.stages()) == 1
    method.close_session(lambda: iter([rows_of(data)]))
    before = {name: tensor.clone() for name, tensor in method.learned().items() if "pool" in name or "memory" in name}
    method.open_session(wider(data, 2))
    assert not method.stages()
    assert all(torch.equal(method.learned()[name], tensor) for name, tensor in before.items())
    assert method(rows_of(data)).scores.shape[1] == 5
    assert method.usage(rows_of(data))["memory"].flatten()[1:].tolist() in ([], [0.0])


def test_gaussian_classes_answer_while_the_prompts_learn_on(pair: Prepared, tmp_path: Path) -> None:
    method, batch = rebq(pair, head="gaussian"), rows_of(pair)
    assert torch.equal(method(batch).scores, method.classifier(method.features(batch)))
    tiny.close(method, pair)
    said = method(batch).scores
    assert torch.equal(said, method.scores(method.features(batch)))
    assert float((said.argmax(dim=1) == batch.target).float().mean()) > 0.9, "rows that were counted"
    method.open_session(wider(pair, 2))
    assert len(method.stages()) == 1 and method(batch).scores.shape[1] == 5
    assert reached(method, [losses(method, replace_target(batch, 3))["task"]]) >= {"classifier"}
    assert not method.stages()[0].learns, "with everything that may learn"


def test_gaussian_classes_of_labels_and_not_of_a_number() -> None:
    data = tiny.prepared(target=tiny.TARGETS[1], names=PAIR)
    method, batch = rebq(data, head="gaussian"), rows_of(data)
    tiny.close(method, data)
    right = (method(batch).scores > 0) == (batch.target > 0.5)  # type: ignore[operator]
    assert float(right.float().mean()) > 0.8
    with pytest.raises(UserError, match="head gaussian: a number has no classes"):
        rebq(tiny.prepared(target=tiny.TARGETS[2], names=PAIR), head="gaussian")


# --- standardised queries


def begun(data: Prepared, *sessions: Batch, **options: Any) -> RebQ:
    method = rebq(data, queries="standardised", **options)
    for batch in sessions:
        method.begin_session(lambda batch=batch: iter([batch]))  # type: ignore[misc]
    return method


def test_the_first_session_alone_says_what_queries_are_measured_by(pair: Prepared) -> None:
    batch = rows_of(pair)
    some = batch.select(torch.arange(len(batch)) % 2 == 0, pair.names)
    first, both = begun(pair, some), begun(pair, some, batch)
    assert all(torch.equal(one, both.learned()[name]) for name, one in first.learned().items())
    asking = first._asking(first.reader.queries(some))
    for m in range(len(pair.names)):
        known = asking[some.presence[:, m], m]
        torch.testing.assert_close(known.mean(dim=0), torch.zeros(DEEP.width), rtol=0, atol=1e-3)


@torch.no_grad()
def test_standardised_queries_do_not_all_ask_alike(pair: Prepared) -> None:
    batch = rows_of(pair)
    alike = []
    for method in (rebq(pair), begun(pair, batch)):
        weights = method.memory.weights(method._asking(method.reader.queries(batch))[batch.presence])
        alike.append(float((weights.mean(dim=1).abs() / weights.abs().mean(dim=1)).mean()))
    assert alike[1] < 0.7 * alike[0]
    assert not torch.equal(begun(pair, batch)(batch).scores, rebq(pair)(batch).scores)


def test_standardised_queries_come_back_from_what_was_learned(pair: Prepared) -> None:
    batch = rows_of(pair)
    method, again = begun(pair, batch), rebq(pair, queries="standardised")
    again.restore(method.learned())
    assert torch.equal(again(batch).scores, method(batch).scores)
