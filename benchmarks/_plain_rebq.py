"""RebQ as its released code computes it, written plainly: what a step and an answer are measured against.

Every row goes through all three passes, padded to the longest; an absent text is [CLS][SEP], an absent image is
white; each complete row comes twice more, once with its text blanked and once with its image; prompts are mixed row
by row and layer by layer. Nothing is kept from one step to the next. The weights are those of an `absentia` method.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.layers.pools import ComponentPool
from absentia.methods.rebq import RebQ
from absentia.models.fused import Block

__all__ = ["Plain", "Rows"]

PAD, CLS, SEP = 0, 1, 2


class Rows(NamedTuple):
    """A batch in which everything is there, and which of it is in truth absent."""

    presence: Tensor  # bool (B, 2): text, image
    input_ids: Tensor  # (B, T)
    pixel_values: Tensor  # (B, 3, H, W)
    target: Tensor  # (B,)

    def blanked(self, rows: Tensor, presence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Word pieces, their mask and pixels of `rows` (n,) that show `presence` (n, 2)."""
        ids, pixels = self.input_ids[rows].clone(), self.pixel_values[rows].clone()
        empty = torch.full_like(ids[0], PAD)
        empty[:2] = torch.tensor([CLS, SEP])
        ids[~presence[:, 0]] = empty
        pixels[~presence[:, 1]] = 1.0
        return ids, ids != PAD, pixels


class Plain:
    """The same losses and scores as a method with `absent="placeholder"` and `reads="first"`.

    tokens counts what goes forward, padding and prompts included, and once more what goes backward.
    """

    def __init__(self, method: RebQ) -> None:
        self.method = method
        self.tokens = 0

    def losses(self, rows: Rows) -> dict[str, Tensor]:
        """The loss of the task and that of reconstruction."""
        features, outputs, originals, presence = self._passes(rows)
        pairs = []
        for row in range(len(rows.target), len(originals)):
            lost, original = int((~presence[row]).nonzero()[0]), int(originals[row])
            pairs.append((outputs[row, lost] - outputs[original, lost].detach()).square().mean())
        task = F.cross_entropy(self.method.classifier(features), rows.target)
        return {"task": task, "reconstruction": self.method.options.alpha * torch.stack(pairs).mean()}

    def scores(self, rows: Rows) -> Tensor:
        """(B, K); the blanked copies of complete rows are computed here too, though nobody reads them."""
        return self.method.classifier(self._passes(rows)[0])

    def _passes(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the classifier reads (B, D), outputs of pass 2 (N, 2, D), and of all rows original and presence."""
        size, full = len(rows.target), rows.presence.all(dim=1).nonzero()[:, 0]
        originals = torch.cat([torch.arange(size), full.repeat_interleave(2)])
        presence = torch.cat([rows.presence, torch.tensor([[False, True], [True, False]]).repeat(len(full), 1)])
        given = rows.blanked(originals, presence)
        with torch.no_grad():
            queries = self._run(given)
        memory = [self._memory(query, there) for query, there in zip(queries, presence, strict=True)]
        outputs = self._run(given, inserted=torch.stack(memory, dim=1))
        prefixes = [self._prefix(queries[i], outputs[i], presence[i]) for i in range(size)]
        given = rows.blanked(torch.arange(size), rows.presence)
        return self._run(given, prefix=torch.stack(prefixes, dim=1))[:, 0], outputs, originals, presence

    def _memory(self, queries: Tensor, presence: Tensor) -> Tensor:
        """(L, P, D) of one row."""
        mixed = [_mixed(self.method.memory, queries[m]) for m in (0, 1) if presence[m]]
        return torch.stack(mixed).sum(dim=0)

    def _prefix(self, queries: Tensor, outputs: Tensor, presence: Tensor) -> Tensor:
        """(L, 2, P, D) of one row: keys and values of both modalities."""
        halves = []
        for m, name in enumerate(self.method.parts.names):
            pool = self.method._pool_of(name)
            prompt = _mixed(pool, queries[m] if presence[m] else outputs[m])
            halves.append(torch.stack(prompt.chunk(2, dim=1), dim=1))
        return torch.cat(halves, dim=2)

    def _run(
        self, given: tuple[Tensor, Tensor, Tensor], inserted: Tensor | None = None, prefix: Tensor | None = None
    ) -> Tensor:
        """(N, 2, D): the [CLS] outputs of text and image."""
        ids, mask, pixels = given
        text, _ = self.method.backbone.embedder("text")(ids, mask)
        image, real = self.method.backbone.embedder("image")(pixels)
        x, seen, behind = torch.cat([text, image], dim=1), torch.cat([mask, real], dim=1), 0
        if inserted is not None:
            behind = inserted.shape[2]
            x = torch.cat([inserted[0], x], dim=1)
            seen = F.pad(seen, (behind, 0), value=True)
        for layer, block in enumerate(self.method.backbone.transformer.blocks):
            if inserted is not None and 0 < layer < len(inserted):
                x = torch.cat([inserted[layer], x[:, behind:]], dim=1)
            own = prefix[layer] if prefix is not None and layer < len(prefix) else None
            x = _layer(block, x, seen, own, self.method.backbone.transformer.heads)
        self.tokens += (1 + int(x.requires_grad)) * x.shape[0] * x.shape[1]
        out = self.method.backbone.transformer.norm(x)
        return out[:, [behind, behind + ids.shape[1]]]


def _layer(block: nn.Module, x: Tensor, seen: Tensor, prefix: Tensor | None, heads: int) -> Tensor:
    """(N, T, D) -> (N, T, D); prefix (N, 2, P, D) are keys and values before the tokens' own."""
    assert isinstance(block, Block)
    normed = block.norm_attention(x)
    query, key, value = block.query(normed), block.key(normed), block.value(normed)
    if prefix is not None:
        key, value = torch.cat([prefix[:, 0], key], dim=1), torch.cat([prefix[:, 1], value], dim=1)
        seen = F.pad(seen, (prefix.shape[2], 0), value=True)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None])
    x = x + block.out(mixed.transpose(1, 2).flatten(2))
    return x + block.narrow(F.gelu(block.widen(block.norm_mlp(x))))


def _mixed(pool: ComponentPool, query: Tensor) -> Tensor:
    """(L, P, D) of one query (D,), layer by layer."""
    out = []
    for layer in range(pool.layers):
        own = pool.current
        looked = F.normalize(query * own.attention[layer], dim=1)
        weights = (looked * F.normalize(own.keys[layer], dim=1)).sum(dim=1)
        out.append(torch.einsum("k,kpd->pd", weights, own.components[layer]))
    return torch.stack(out)
