from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from absentia.models.fused import FusedTransformer, Prompts, Segment

WIDTH, DEPTH, HEADS = 16, 3, 4
LENGTHS = (5, 12, 2)  # tokens of the three modalities, the [CLS] counted


def model(seed: int = 0) -> FusedTransformer:
    torch.manual_seed(seed)
    transformer = FusedTransformer(width=WIDTH, depth=DEPTH, heads=HEADS, mlp=32)
    for parameter in transformer.parameters():  # sharp attention and real biases, so that nothing agrees by luck
        torch.nn.init.normal_(parameter, std=0.3)
    return transformer


def segments_of(presence: Tensor, seed: int = 0) -> list[Segment]:
    """Random tokens for presence (B, M); what a row gets does not depend on who else is in the batch."""
    segments = []
    for m, length in enumerate(LENGTHS[: presence.shape[1]]):
        rows = presence[:, m].nonzero()[:, 0]
        tokens, valid = torch.zeros(len(rows), length, WIDTH), torch.zeros(len(rows), length, dtype=torch.bool)
        for i, row in enumerate(rows.tolist()):
            own = torch.Generator().manual_seed(seed * 1009 + row * 31 + m)
            tokens[i] = torch.randn(length, WIDTH, generator=own)
            valid[i] = torch.arange(length) <= torch.randint(0, length, (1,), generator=own)
        segments.append(Segment(tokens, valid, rows))
    return segments


def prompts_of(size: int, *, layers: int = 2, seed: int = 0) -> Prompts:
    draw = torch.Generator().manual_seed(seed)
    keys, values, inserted = (torch.randn(layers, size, 3, WIDTH, generator=draw) for _ in range(3))
    visible = torch.rand(size, 3, generator=draw) < 0.6
    return Prompts(keys=keys, values=values, visible=visible, inserted=inserted)


def selected(segments: list[Segment], prompts: Prompts | None, rows: Tensor) -> tuple[list[Segment], Prompts | None]:
    """The same batch with these rows alone."""
    chosen = []
    for tokens, valid, owners in segments:
        keep = torch.isin(owners, rows)
        chosen.append(Segment(tokens[keep], valid[keep], torch.searchsorted(rows, owners[keep])))
    if prompts is None:
        return chosen, None
    fields = {name: getattr(prompts, name) for name in ("keys", "values", "inserted")}
    cut = {name: value[:, rows] for name, value in fields.items() if value is not None}
    masks = {name: getattr(prompts, name) for name in ("visible", "inserts")}
    return chosen, replace(prompts, **cut, **{n: m[rows] for n, m in masks.items() if m is not None})


def written_out(transformer: FusedTransformer, tokens: Tensor, prompts: Prompts | None, row: int) -> Tensor:
    """One sample (T, D), nothing packed, nothing padded: what the model should be."""
    inserted = prompts.inserted[:, row] if prompts is not None and prompts.inserted is not None else None
    x = tokens
    if inserted is not None:
        x = torch.cat([x[:1], inserted[0], x[1:]])
    for layer, block in enumerate(transformer.blocks):
        if inserted is not None and 0 < layer < len(inserted):
            x = torch.cat([x[:1], inserted[layer], x[1 + len(inserted[layer]) :]])
        h = F.layer_norm(x, (WIDTH,), block.norm_attention.weight, block.norm_attention.bias, 1e-6)
        q, k, v = block.query(h), block.key(h), block.value(h)
        if prompts is not None and prompts.keys is not None and layer < len(prompts.keys):
            assert prompts.values is not None and prompts.visible is not None
            seen = prompts.visible[row]
            k = torch.cat([prompts.keys[layer, row][seen], k])
            v = torch.cat([prompts.values[layer, row][seen], v])
        q, k, v = (part.view(len(part), HEADS, -1).transpose(0, 1) for part in (q, k, v))
        weights = (q @ k.transpose(1, 2) / (WIDTH // HEADS) ** 0.5).softmax(-1)
        x = x + block.out((weights @ v).transpose(0, 1).reshape(len(x), WIDTH))
        h = F.layer_norm(x, (WIDTH,), block.norm_mlp.weight, block.norm_mlp.bias, 1e-6)
        h = block.widen(h)
        x = x + block.narrow(0.5 * h * (1 + torch.erf(h / 2**0.5)))
    if inserted is not None:
        x = torch.cat([x[:1], x[1 + inserted.shape[1] :]])
    return F.layer_norm(x, (WIDTH,), transformer.norm.weight, transformer.norm.bias, 1e-6)


presences = (
    st.integers(0, 9)
    .flatmap(lambda size: st.lists(st.tuples(*[st.booleans()] * 3), min_size=size, max_size=size))
    .map(lambda rows: torch.tensor(rows, dtype=torch.bool).view(len(rows), 3))
)


@settings(max_examples=40)
@given(presences, st.sampled_from(["no prompts", "prefixes", "inserted", "both"]))
def test_equals_each_sample_written_out(presence: Tensor, kind: str) -> None:
    transformer, segments = model(), segments_of(presence)
    prompts = {
        "no prompts": None,
        "both": (both := prompts_of(len(presence))),
        "prefixes": replace(both, inserted=None),
        "inserted": Prompts(inserted=both.inserted),
    }[kind]
    output = transformer(segments, len(presence), prompts)
    for row in range(len(presence)):
        mine = [(m, (segment.rows == row).nonzero()[0, 0]) for m, segment in enumerate(segments) if presence[row, m]]
        if not mine:
            continue
        alone = torch.cat([segments[m].tokens[i][segments[m].valid[i]] for m, i in mine])
        together = torch.cat([output.tokens(m)[i][segments[m].valid[i]] for m, i in mine])
        torch.testing.assert_close(together, written_out(transformer, alone, prompts, row), atol=1e-5, rtol=1e-5)


@settings(max_examples=25)
@given(presences, st.booleans(), st.sampled_from(["all", "cls"]))
def test_a_mixed_batch_equals_its_patterns_and_its_rows_one_by_one(presence: Tensor, prompted: bool, rows: str) -> None:
    transformer = model()
    size = len(presence)
    codes = (presence.long() * torch.tensor([1, 2, 4])).sum(1)

    def run(parts: list[Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        transformer.zero_grad()
        prompts = prompts_of(size) if prompted else None
        if prompts is not None:
            leaves = [p.requires_grad_() for p in (prompts.keys, prompts.values, prompts.inserted) if p is not None]
        answers = [torch.zeros(size, WIDTH) for _ in LENGTHS]
        loss = torch.zeros(())
        for part in parts:
            segments, some = selected(segments_of(presence), prompts, part)
            output = transformer(segments, len(part), some, rows=rows)
            for m, segment in enumerate(segments):
                answers[m][part[segment.rows]] = output.cls(m).detach()
                loss = loss + output.cls(m).pow(2).sum()
        if loss.requires_grad:
            loss.backward()
        gradients = {n: p.grad for n, p in transformer.named_parameters() if p.grad is not None}
        if prompted:
            gradients.update({str(i): p.grad for i, p in enumerate(leaves) if p.grad is not None})
        return answers, {name: gradient.clone() for name, gradient in gradients.items()}

    mixed, gradients = run([torch.arange(size)])
    by_pattern = [(codes == code).nonzero()[:, 0] for code in codes.unique()]
    for parts in (by_pattern, list(torch.arange(size)[:, None])):
        answers, others = run(parts)
        torch.testing.assert_close(answers, mixed, atol=1e-5, rtol=1e-5)
        if any(name.startswith("blocks") for name in gradients):
            torch.testing.assert_close(others, gradients, atol=1e-4, rtol=1e-4)


def test_gradients_agree_to_double_precision() -> None:
    """The tolerance above is rounding: in float64 mixed batch and single rows agree to 1e-12."""
    transformer = model().double()
    presence = torch.tensor([[1, 0, 1], [1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 0]], dtype=torch.bool)
    segments = [Segment(t.double(), v, r) for t, v, r in segments_of(presence)]
    gradients = []
    for parts in ([torch.arange(5)], list(torch.arange(5)[:, None])):
        transformer.zero_grad()
        for part in parts:
            chosen, _ = selected(segments, None, part)
            output = transformer(chosen, len(part))
            torch.stack([output.tokens(m).pow(2).sum() for m in range(3)]).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in transformer.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-11, rtol=1e-11)


def test_padding_and_hidden_prompts_are_never_read() -> None:
    presence = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    transformer, clean = model(), prompts_of(4)
    inserts = torch.tensor([True, False, False, True])

    def run(poison: float) -> tuple[Tensor, list[Tensor]]:
        transformer.zero_grad()
        segments = [Segment(t.masked_fill(~v[..., None], poison), v, r) for t, v, r in segments_of(presence)]
        assert clean.visible is not None and clean.keys is not None and clean.values is not None
        hidden = ~clean.visible[None, :, :, None]
        prompts = Prompts(
            keys=clean.keys.masked_fill(hidden, poison),
            values=clean.values.masked_fill(hidden, poison),
            visible=clean.visible,
            inserted=clean.inserted.masked_fill(~inserts[None, :, None, None], poison),  # type: ignore[union-attr]
            inserts=inserts,
        )
        leaves = [segment.tokens.requires_grad_() for segment in segments]
        output = transformer(segments, 4, prompts)
        answers = torch.cat([output.cls(m) for m in range(3)])
        answers.pow(2).sum().backward()
        return answers, [p.grad for p in (*transformer.parameters(), *leaves)]  # type: ignore[misc]

    (clean_answers, clean_gradients), (answers, gradients) = run(0.0), run(float("nan"))
    assert torch.equal(answers, clean_answers)
    assert all(torch.equal(a, b) for a, b in zip(gradients, clean_gradients, strict=True))


def test_samples_without_prompts_do_not_notice_those_of_others() -> None:
    presence = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 1, 1]], dtype=torch.bool)
    transformer, segments, prompts = model(), segments_of(presence), prompts_of(3)
    without = replace(
        prompts, visible=torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 1]]).bool(), inserts=torch.tensor([1, 0, 1]).bool()
    )
    plain, prompted = transformer(segments, 3), transformer(segments, 3, without)
    difference = (plain.tokens(1) - prompted.tokens(1)).abs().amax((1, 2))
    assert difference[1] < 1e-6
    assert difference[0] > 1e-2 and difference[2] > 1e-2


def test_nothing_there_is_legal() -> None:
    transformer = model()
    for presence in (torch.zeros(0, 2), torch.zeros(3, 2)):
        segments = segments_of(presence.bool())
        for prompts in (None, prompts_of(len(presence))):
            for rows in ("all", "cls"):
                output = transformer(segments, len(presence), prompts, rows=rows)
                assert output.packed.shape == (0, WIDTH)
                assert output.cls(1).shape == (0, WIDTH)
        assert transformer(segments, len(presence)).tokens(0).shape == (0, LENGTHS[0], WIDTH)
    assert transformer([], 0).packed.shape == transformer([], 5).packed.shape == (0, WIDTH)
    assert transformer([], 5, prompts_of(5)).packed.shape == (0, WIDTH)


def test_the_last_layer_for_the_cls_alone_is_exact() -> None:
    presence = torch.tensor([[1, 1, 1], [0, 1, 0], [1, 0, 1], [0, 0, 0], [0, 1, 1]], dtype=torch.bool)
    transformer, segments = model(), segments_of(presence)
    for prompts in (None, prompts_of(5), prompts_of(5, layers=DEPTH)):
        every, only = transformer(segments, 5, prompts), transformer(segments, 5, prompts, rows="cls")
        assert only.packed.shape == (int(presence.sum()), WIDTH)
        for m in range(3):
            torch.testing.assert_close(only.cls(m), every.cls(m), atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(every.cls(m), every.tokens(m)[:, 0], atol=0, rtol=0)
    with pytest.raises(ValueError, match='rows="all"'):
        only.tokens(0)


def test_order_of_modalities_and_samples_does_not_matter() -> None:
    presence = torch.tensor([[1, 1, 1], [0, 1, 0], [1, 0, 1], [0, 0, 1]], dtype=torch.bool)
    transformer, segments = model(), segments_of(presence)
    answers = transformer(segments, 4)
    backwards = transformer(segments[::-1], 4)
    flipped = transformer([Segment(t.flip(0), v.flip(0), (3 - r).flip(0)) for t, v, r in segments], 4)
    for m in range(3):
        torch.testing.assert_close(backwards.cls(2 - m), answers.cls(m), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(flipped.cls(m).flip(0), answers.cls(m), atol=1e-5, rtol=1e-5)


def test_layers_see_the_tokens_that_are_there_and_hooks_know_whose_they_are() -> None:
    presence = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    transformer, segments = model(), segments_of(presence)
    packing = transformer.pack(segments, 3)
    there = sum(int(segment.valid.sum()) for segment in segments)
    shift = torch.tensor([0.0, 1.0, 5.0])  # a shift per sample, as a pattern-wise adapter would add
    seen = []

    def hook(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen.append(len(output))
        return output + shift[packing.sample, None]

    before = transformer.run(packing).cls(1)
    for name, module in transformer.named_modules():
        if isinstance(module, torch.nn.Linear) and name.startswith("blocks.0"):
            module.register_forward_hook(hook)
    after = transformer.run(packing).cls(1)
    assert seen == [there] * 6
    moved = (before - after).abs().amax(1)
    assert moved[0] < 1e-6 < 1e-2 < moved[1]


def test_initialisation_is_small_and_repeats() -> None:
    def fresh() -> FusedTransformer:
        torch.manual_seed(3)
        return FusedTransformer(width=64, depth=8, heads=4, mlp=256)

    first, second = fresh().state_dict(), fresh().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["blocks.0.query.weight"].std() == pytest.approx(0.02, rel=0.1)
    assert first["blocks.0.out.weight"].std() == pytest.approx(0.02 / 4, rel=0.1)
    assert not first["blocks.5.widen.bias"].any()


def test_weights_survive_safetensors(tmp_path: Path) -> None:
    transformer, other = model(0), model(1)
    save_file(transformer.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    segments = segments_of(torch.ones(3, 3).bool())
    assert torch.equal(transformer(segments, 3).packed, other(segments, 3).packed)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    transformer = FusedTransformer(width=WIDTH, depth=1, heads=HEADS, mlp=32, dropout=0.5)
    segments = segments_of(torch.ones(3, 2).bool())
    assert not torch.equal(transformer(segments, 3).packed, transformer(segments, 3).packed)
    transformer.eval()
    assert torch.equal(transformer(segments, 3).packed, transformer(segments, 3).packed)


def test_runs_in_bfloat16_with_prompts() -> None:
    presence = torch.tensor([[1, 1, 0], [0, 1, 1]], dtype=torch.bool)
    transformer, segments, prompts = model(), segments_of(presence), prompts_of(2)
    exact = transformer(segments, 2, prompts).cls(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = transformer(segments, 2, prompts).cls(1)
    rough.float().sum().backward()
    assert F.cosine_similarity(exact, rough.float()).min() > 0.99


def test_prompts_that_do_not_fit_are_refused() -> None:
    transformer, segments = model(), segments_of(torch.ones(2, 2).bool())
    good = prompts_of(2)
    assert good.keys is not None

    def refused(message: str, prompts: Prompts) -> None:
        with pytest.raises(ValueError, match=message):
            transformer(segments, 2, prompts)

    refused("come together", replace(good, values=None))
    refused(r"keys \(4, 2, 3, 16\), expected \(1 to 3, 2, any, 16\)", prompts_of(2, layers=4))
    refused("expected", prompts_of(3))
    refused("values", replace(good, values=good.keys[:, :, :2]))
    refused("visible", replace(good, visible=torch.ones(2, 2).bool()))
    refused("visible", Prompts(visible=torch.ones(2, 3).bool()))
    refused("inserts", replace(good, inserts=torch.ones(3).bool()))
    with pytest.raises(ValueError, match="multiple of 3"):
        FusedTransformer(width=16, depth=1, heads=3, mlp=8)
