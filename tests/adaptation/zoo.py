"""Small networks that are hard to adapt, each with how it is called: what every test of adapters is tried on."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from tests.checkpoints import VILT_WORDS, shaken, vilt_config
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import absentia
from absentia.adaptation import Adapted
from absentia.adaptation.nested import tensors

__all__ = ["ZOO", "Animal", "adapted", "difference", "hidden", "mixed", "numbers", "patterns_of", "rows", "trained"]


@dataclass(frozen=True, kw_only=True)
class Animal:
    """One network.

    rows: number of rows and a generator to the arguments of a call.
    gathers: whether rows of several patterns can run in one pass, as far as can be proven.
    fused: whether torch has another kernel for it when there are no gradients, which differs in the last bits.
    unmergeable: part of the message that refuses to merge it.
    options: more for `adapt`.
    """

    make: Callable[[], nn.Module]
    rows: Callable[[int, torch.Generator], dict[str, Any]]
    modalities: Mapping[str, str | Sequence[str]] | Sequence[str] = field(default_factory=lambda: ["a", "b"])
    inputs: Mapping[str, str | Sequence[str]] | None = None
    gathers: bool = True
    fused: bool = False
    unmergeable: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def animal(name: str, seed: int = 0) -> nn.Module:
    """A network in float64, with random numbers in all that it has, as a trained one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ZOO[name].make().double()
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.data += 0.3 * torch.rand_like(tensor)
    return network


def rows(name: str, count: int = 5, seed: int = 1) -> dict[str, Any]:
    """Arguments of a call with everything present."""
    draw = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()) % 1000)
    return ZOO[name].rows(count, draw)


def adapted(name: str, network: nn.Module | None = None, **options: Any) -> Adapted:
    """The network, adapted with an example of everything."""
    one = ZOO[name]
    given = {"modalities": one.modalities, "inputs": one.inputs, "example": rows(name), "say": None, **one.options}
    return absentia.adapt(animal(name) if network is None else network, **(given | options))


def trained(net: Adapted, size: float = 0.3, seed: int = 7) -> Adapted:
    """The same, with random numbers in all adapters."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.adapters():
            parameter += size * torch.randn(parameter.shape, generator=draw, dtype=torch.float64).to(parameter)
    return net


def patterns_of(net: Adapted) -> list[str]:
    """All patterns but the full one."""
    count = len(net.names)
    masks = range(1, 2**count - 1)
    return ["+".join(n for i, n in enumerate(net.names) if mask >> i & 1) for mask in masks]


def mixed(net: Adapted, count: int = 5) -> Tensor:
    """Presence bool (count, M) with all patterns in turn, as far as it is long enough, the full one first."""
    masks = [2 ** len(net.names) - 1 - (i * 2) % (2 ** len(net.names) - 1) for i in range(count)]
    return torch.tensor([[bool(mask >> i & 1) for i in range(len(net.names))] for mask in masks])


def numbers(output: Any) -> list[Tensor]:
    """The tensors of an output."""
    found = tensors(output)
    assert found, "the network gives no tensor"
    return found


def difference(one: Any, other: Any) -> float:
    """The largest difference between two outputs of the same form, relative to their size."""
    pairs = list(zip(numbers(one), numbers(other), strict=True))
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
    sizes = ((a.detach().double(), b.detach().double()) for a, b in pairs)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-9)) for a, b in sizes)


def hidden(net: Adapted, arguments: Mapping[str, Any], presence: Tensor, value: float) -> dict[str, Any]:
    """The arguments with `value` in everything of what is absent."""
    signature = net.plan.signature
    bound = signature.bind([], arguments)
    for m, name in enumerate(net.names):
        for slot in signature.slots[name]:
            old = slot.read(bound)
            mask = presence[:, m].view(-1, *[1] * (old.ndim - 1))
            strange = torch.full_like(old, value) if old.is_floating_point() else old.roll(1, 0)
            slot.write(bound, torch.where(mask, old, strange))
    return bound


# --- the networks


class ConvFusion(nn.Module):
    """Two convolutional encoders with batch norm, a transformer over their tokens, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Conv2d(c, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2))
                for name, c in (("rgb", 3), ("depth", 1))
            }
        )
        self.place = nn.Parameter(torch.randn(1, 8, 6))
        self.fusion = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.1, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        tokens = [self.encoders[n](x).flatten(2).mT for n, x in (("rgb", rgb), ("depth", depth))]
        return self.head(self.fusion(torch.cat(tokens, 1) + self.place).mean(1))


class Encoder(nn.Module):
    """nn.TransformerEncoder, with all its ways around its own modules."""

    def __init__(self, activation: str, *, batch_first: bool = True, mask: bool = False, norm_first: bool = False):
        super().__init__()
        self.batch_first, self.mask = batch_first, mask
        self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)
        layer = nn.TransformerEncoderLayer(
            4, 2, 6, batch_first=batch_first, activation=activation, norm_first=norm_first
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=mask)

    def forward(self, a: Tensor, b: Tensor, padding: Tensor | None = None) -> Tensor:
        tokens = torch.cat([self.a(a), self.b(b)], 1)
        tokens = tokens if self.batch_first else tokens.transpose(0, 1)
        out = self.encoder(tokens, src_key_padding_mask=padding)
        return out if self.batch_first else out.transpose(0, 1)


class Attention(nn.Module):
    """nn.MultiheadAttention alone: b asks, a answers."""

    def __init__(self, mask: str = "", *, kdim: int | None = None, bias: bool = True, weights: bool = False) -> None:
        super().__init__()
        self.mask, self.weights = mask, weights
        self.a = nn.Linear(3, kdim or 4)
        self.attention = nn.MultiheadAttention(4, 2, kdim=kdim, vdim=kdim, bias=bias, batch_first=mask != "rows second")
        self.head = nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor, unseen: Tensor | None = None) -> Any:
        x = self.a(a)
        if self.mask == "rows second":
            out, _ = self.attention(query=b.transpose(0, 1), key=x.transpose(0, 1), value=x.transpose(0, 1))
            return self.head(out.transpose(0, 1))
        padding = unseen if self.mask == "padding" else None  # (B, L)
        attn_mask = None
        if unseen is not None and self.mask == "attention":
            attn_mask = unseen[:, None].expand(-1, b.shape[1], -1).repeat_interleave(2, 0)  # (2 B, L', L)
        out, seen = self.attention(b, x, x, key_padding_mask=padding, attn_mask=attn_mask, need_weights=self.weights)
        return (self.head(out), seen) if self.weights else self.head(out)


class Recurrent(nn.Module):
    """An LSTM, GRU or RNN over the frames of both."""

    def __init__(self, kind: type[nn.RNNBase], *, hx: bool = False, **options: Any) -> None:
        super().__init__()
        self.hx = hx
        self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)
        self.rnn = kind(4, 3, **options)
        self.head = nn.Linear(3 * (1 + self.rnn.bidirectional), 2)

    def forward(self, a: Tensor, b: Tensor, lengths: Tensor | None = None) -> Any:
        x = self.a(a) + self.b(b)
        x = x if self.rnn.batch_first else x.transpose(0, 1)
        if lengths is not None:
            x = pack_padded_sequence(x, lengths, batch_first=self.rnn.batch_first, enforce_sorted=False)
        start = a.mean((1, 2))[None, :, None].expand(self.rnn.num_layers * (1 + self.rnn.bidirectional), -1, 3)
        args = (x,) if not self.hx else (x, (start, start * 2)) if isinstance(self.rnn, nn.LSTM) else (x, start)
        out, last = self.rnn(*args)
        if lengths is not None:
            out = pad_packed_sequence(out, batch_first=self.rnn.batch_first, total_length=a.shape[1])[0]
        last = last[0] if isinstance(last, tuple) else last
        return self.head(out if self.rnn.batch_first else out.transpose(0, 1)), last.transpose(0, 1)


class Shared(nn.Module):
    """One module under two names, called with different modalities."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = self.first
        self.head = nn.Linear(8, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(torch.cat([self.first(a).tanh(), self.second(b)], -1))


class Tied(nn.Module):
    """The embedding is the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.b = nn.Embedding(7, 4), nn.Linear(2, 4)
        self.decoder = nn.Linear(4, 7)
        self.decoder.weight = self.embedding.weight

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.decoder(self.embedding(a).mean(1) + self.b(b))


class Folding(nn.Module):
    """Windows or frames in the batch: row by row (as Swin), or frame by frame."""

    def __init__(self, *, major: bool) -> None:
        super().__init__()
        self.major = major
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU())
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.conv, self.head = nn.Conv1d(4, 4, 1), nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x = a + b  # (B, T, L, 3)
        count, frames = x.shape[:2]
        x = x.flatten(0, 1) if self.major else x.transpose(0, 1).flatten(0, 1)
        x = self.inner(x)
        x = self.conv((x + self.attention(x, x, x)[0]).mT).mT
        x = x.view(count, frames, *x.shape[1:]) if self.major else x.view(frames, count, *x.shape[1:]).transpose(0, 1)
        return self.head(x.mean((1, 2)))


class RowsLast(nn.Module):
    """Convolutions that find the rows along the places, not in front."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv1d(3, 4, 1), nn.InstanceNorm1d(4), nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x = self.conv((a + b).permute(1, 2, 0))  # (T, 3, B)
        return self.head(x.permute(2, 0, 1).tanh().mean(1))


class Convolutions(nn.Module):
    """Convolutions of one to three dimensions, transposed ones, groups, and as many channels as places."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(2, 4, 3, padding="same", padding_mode="circular")
        self.up = nn.ConvTranspose1d(4, 6, 2, stride=2, groups=2, bias=False)
        self.two = nn.Conv2d(2, 4, 1, groups=2)
        self.square = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.turned = nn.ConvTranspose2d(4, 4, 1, groups=4)
        self.three = nn.Conv3d(1, 3, (1, 2, 2), stride=2, dilation=(1, 2, 1), padding=1)
        self.four = nn.ConvTranspose3d(3, 2, 1)
        self.head = nn.Linear(6 + 4 + 2, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        line = self.up(self.one(a.flatten(2)).tanh()).mean(-1)
        plane = self.turned(self.square(self.two(b))).tanh().mean((-1, -2))
        space = self.four(self.three((a + b)[:, :1, None].expand(-1, -1, 3, -1, -1))).tanh().mean((-1, -2, -3))
        return self.head(torch.cat([line, plane, space], -1))


class Norms(nn.Module):
    """Norms of all sorts, with and without affine parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.ModuleList(
            [
                nn.GroupNorm(2, 4),
                nn.GroupNorm(4, 4, affine=False),
                nn.InstanceNorm1d(4),
                nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
                nn.BatchNorm1d(4),
                nn.BatchNorm1d(4, affine=False),
            ]
        )
        self.last = nn.ModuleList(
            [
                nn.LayerNorm(5),
                nn.LayerNorm(5, bias=False),
                nn.LayerNorm(5, elementwise_affine=False),
                nn.LayerNorm([4, 5]),
                nn.LayerNorm([4, 5], elementwise_affine=False),
                nn.RMSNorm(5),
                nn.RMSNorm([4, 5], elementwise_affine=False),
            ]
        )
        self.head = nn.Linear(5, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x = a + b
        for norm in (*self.inside, *self.last):
            x = x + norm(x).tanh()
        return self.head(x.mean(1))


class Words(nn.Module):
    """Tokens, places, and a bilinear product."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(7, 4, padding_idx=0), nn.Embedding(6, 4)
        self.b, self.both = nn.Linear(2, 3), nn.Bilinear(4, 3, 4, bias=False)
        self.head = nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        text = self.words(a) + self.places(torch.arange(a.shape[1], device=a.device))
        return self.head(self.both(text.mean(1), self.b(b)))


@dataclass
class Answer:
    """No type that torch knows to look into."""

    scores: Tensor
    more: tuple[Tensor, ...]


class Outputs(nn.Module):
    """Outputs in a dict, a tuple or a dataclass."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.a, self.b, self.head = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor) -> Any:
        hidden = self.a(a).tanh() + self.b(b)
        scores = self.head(hidden)
        if self.form == "one number":
            return scores[:, 0], scores.argmax(1)
        if self.form == "dataclass":
            return Answer(scores, (hidden, hidden * 2))
        if self.form == "nested":
            return {"all": [Answer(scores, (hidden,)), None, "a word"], "number": 3}
        return {"scores": scores, "hidden": [hidden]} if self.form == "dict" else (scores, (hidden, None))


class Views(nn.Module):
    """Inputs in a list, a mapping, by star, by keyword, or as channels of one tensor."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.a, self.b, self.head = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(8, 2)

    def answer(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(torch.cat([self.a(a), self.b(b)], -1).tanh())


class Listed(Views):
    def forward(self, views: list[Tensor]) -> Tensor:
        return self.answer(views[0], views[1])


class Mapped(Views):
    def forward(self, views: dict[str, Tensor], scale: float = 1.0) -> Tensor:
        return self.answer(views["left"], views["right"]) * scale


class Starred(Views):
    def forward(self, *views: Tensor) -> Tensor:
        return self.answer(*views)


class HalfStarred(Views):
    def forward(self, first: Tensor, *rest: Tensor) -> Tensor:
        return self.answer(first, *rest)


class Keywords(Views):
    def forward(self, *, a: Tensor, b: Tensor) -> Tensor:
        return self.answer(a, b)


class AnyKeywords(Views):
    def forward(self, **views: Tensor) -> Tensor:
        return self.answer(views["a"], views["b"])


class PositionOnly(Views):
    def forward(self, x1: Tensor, x2: Tensor, /, scale: float = 1.0) -> Tensor:
        return self.answer(x1, x2) * scale


class Channels(Views):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x[:, 0:3], x[:, 3:6])


class Mixing(nn.Module):
    """Rows that look at each other: within, or only at the very end."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.a, self.b, self.head = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x = self.a(a) + self.b(b)
        x = x - x.mean(0) if self.where == "within" else x
        out = self.head(x.tanh())
        return out - out.mean(0) if self.where == "at the end" else out


class BatchStatistics(nn.Module):
    """A batch norm without running statistics mixes rows in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)
        self.norm, self.head = nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(self.norm(self.a(a) + self.b(b)))


class Computed(nn.Module):
    """Weights that parametrizations compute."""

    def __init__(self) -> None:
        super().__init__()
        self.a = parametrizations.weight_norm(nn.Linear(3, 4))
        self.b = parametrizations.spectral_norm(nn.Conv1d(2, 4, 1))
        self.head = nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(self.a(a) + self.b(b).mean(-1).tanh())


class Hooked(nn.Module):
    """Weights that a hook computes before each call."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.a = nn.utils.weight_norm(nn.Linear(3, 4))  # type: ignore[no-untyped-call]
        self.b, self.head = nn.Linear(2, 4), nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head((self.a(a) + self.b(b)).tanh())


class Scaled(nn.Module):
    """A leaf of its own kind, whose weight has one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.bias = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


class Leaf(nn.Module):
    """A network with a leaf that no table knows."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.own, self.head = nn.Linear(3, 4), nn.Linear(2, 4), Scaled(), nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(self.own(self.a(a) + self.b(b)).tanh())


class Three(nn.Module):
    """Three modalities."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 4), nn.Linear(2, 4), nn.Linear(2, 4)
        self.mix = nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return self.mix(torch.cat([self.a(a), self.b(b), self.c(c)], -1))


class Vilt(nn.Module):
    """A ViLT whose two inputs each have a mask beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = shaken(transformers.ViltModel(vilt_config()))
        self.head = nn.Linear(32, 3)

    def forward(self, input_ids: Tensor, pixel_values: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.head(self.body(input_ids, attention_mask, pixel_values=pixel_values).pooler_output)


def randn(*shape: int, draw: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def two(*shapes: tuple[int, ...]) -> Callable[[int, torch.Generator], dict[str, Any]]:
    names = ("a", "b", "c")
    return lambda n, draw: {name: randn(n, *s, draw=draw) for name, s in zip(names, shapes, strict=False)}


def _padded(n: int, draw: torch.Generator) -> dict[str, Any]:
    lengths = torch.arange(n)[:, None] % 3 + 2
    return {**two((3, 3), (2, 2))(n, draw), "padding": torch.arange(5) >= lengths}


def _unseen(n: int, draw: torch.Generator) -> dict[str, Any]:
    return {**two((3, 3), (2, 4))(n, draw), "unseen": torch.arange(n)[:, None] % 3 == torch.arange(3)}


def _vilt(n: int, draw: torch.Generator) -> dict[str, Any]:
    ids = torch.randint(5, len(VILT_WORDS), (n, 6), generator=draw)
    return {
        "input_ids": ids,
        "pixel_values": randn(n, 3, 24, 24, draw=draw),
        "attention_mask": torch.ones_like(ids),
    }


OWN = {"a": "a", "b": "b"}
FLAT, LONG = two((3,), (2,)), two((3, 3), (2, 2))
FRAMES, VECTORS = two((4, 3), (4, 2)), two((3,), (3,))


def _listed(n: int, draw: torch.Generator) -> dict[str, Any]:
    return {"views": list(VECTORS(n, draw).values())}


ZOO: dict[str, Animal] = {
    "conv fusion": Animal(
        make=ConvFusion,
        rows=lambda n, d: {"rgb": randn(n, 3, 4, 4, draw=d), "depth": randn(n, 1, 4, 4, draw=d)},
        modalities={"rgb": "encoders.rgb", "depth": "encoders.depth"},
        fused=True,
    ),
    "encoder, relu": Animal(make=lambda: Encoder("relu"), rows=LONG, modalities=OWN, fused=True),
    "encoder, gelu": Animal(make=lambda: Encoder("gelu", norm_first=True), rows=LONG, modalities=OWN, fused=True),
    "encoder, padding": Animal(make=lambda: Encoder("relu", mask=True), rows=_padded, modalities=OWN, fused=True),
    "encoder, rows second": Animal(make=lambda: Encoder("relu", batch_first=False), rows=LONG, modalities=OWN),
    "attention": Animal(make=Attention, rows=two((3, 3), (2, 4)), fused=True),
    "attention, weights": Animal(make=lambda: Attention(weights=True), rows=two((3, 3), (2, 4)), fused=True),
    "attention, kdim": Animal(make=lambda: Attention(kdim=6), rows=two((3, 3), (2, 4))),
    "attention, no bias": Animal(make=lambda: Attention(bias=False), rows=two((3, 3), (2, 4))),
    "attention, attn_mask": Animal(make=lambda: Attention("attention"), rows=_unseen, fused=True),
    "attention, padding mask": Animal(make=lambda: Attention("padding"), rows=_unseen, fused=True),
    "attention, rows second": Animal(make=lambda: Attention("rows second"), rows=two((3, 3), (2, 4))),
    "lstm": Animal(
        make=lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True, batch_first=True), rows=FRAMES, modalities=OWN
    ),
    "lstm, hx": Animal(make=lambda: Recurrent(nn.LSTM, hx=True, num_layers=2), rows=FRAMES),
    "lstm, packed": Animal(
        make=lambda: Recurrent(nn.LSTM, batch_first=True),
        rows=lambda n, d: {**FRAMES(n, d), "lengths": torch.arange(n) % 4 + 1},
        modalities=OWN,
        gathers=False,
    ),
    "gru, packed": Animal(
        make=lambda: Recurrent(nn.GRU),
        rows=lambda n, d: {**FRAMES(n, d), "lengths": torch.full((n,), 4)},
        gathers=False,
    ),
    "gru": Animal(make=lambda: Recurrent(nn.GRU, hx=True, bidirectional=True, batch_first=True), rows=FRAMES),
    "gru, rows second": Animal(make=lambda: Recurrent(nn.GRU, num_layers=2, bias=False), rows=FRAMES),
    "rnn": Animal(make=lambda: Recurrent(nn.RNN, batch_first=True, nonlinearity="relu"), rows=FRAMES),
    "shared": Animal(make=Shared, rows=VECTORS),
    "tied": Animal(
        make=Tied,
        rows=lambda n, d: {"a": torch.randint(0, 7, (n, 4), generator=d), "b": randn(n, 2, draw=d)},
        modalities={"a": "embedding", "b": "b"},
        unmergeable="share one parameter",
    ),
    "windows": Animal(make=lambda: Folding(major=True), rows=two((2, 3, 3), (2, 3, 3))),
    "frames": Animal(make=lambda: Folding(major=False), rows=two((2, 3, 3), (2, 3, 3))),
    "rows last": Animal(make=RowsLast, rows=two((4, 3), (4, 3))),
    "convolutions": Animal(make=Convolutions, rows=two((2, 4, 4), (2, 4, 4))),
    "norms": Animal(make=Norms, rows=two((4, 5), (4, 5))),
    "words": Animal(
        make=Words,
        rows=lambda n, d: {"a": torch.randint(0, 7, (n, 4), generator=d), "b": randn(n, 2, draw=d)},
        modalities={"a": ["words", "places"], "b": "b"},
    ),
    "dict": Animal(make=lambda: Outputs("dict"), rows=FLAT, modalities=OWN),
    "tuple": Animal(make=lambda: Outputs("tuple"), rows=FLAT),
    "dataclass": Animal(make=lambda: Outputs("dataclass"), rows=FLAT),
    "one number": Animal(make=lambda: Outputs("one number"), rows=FLAT),
    "nested": Animal(make=lambda: Outputs("nested"), rows=FLAT),
    "list": Animal(make=lambda: Listed("list"), rows=_listed, inputs={"a": "views[0]", "b": "views[1]"}),
    "mapping": Animal(
        make=lambda: Mapped("mapping"),
        rows=lambda n, d: {"views": dict(zip(("left", "right"), VECTORS(n, d).values(), strict=True)), "scale": 2.0},
        inputs={"a": "views['left']", "b": "views['right']"},
    ),
    "star": Animal(
        make=lambda: Starred("star"),
        rows=VECTORS,
    ),
    "half a star": Animal(
        make=lambda: HalfStarred("star"),
        rows=VECTORS,
    ),
    "keywords": Animal(make=lambda: Keywords("keywords"), rows=VECTORS, modalities=OWN),
    "any keywords": Animal(make=lambda: AnyKeywords("any"), rows=VECTORS, inputs={"a": "a", "b": "b"}),
    "position only": Animal(make=lambda: PositionOnly("position"), rows=VECTORS),
    "channels": Animal(
        make=lambda: Channels("channels"),
        rows=lambda n, d: {"x": randn(n, 6, draw=d)},
        inputs={"a": "x[:, 0:3]", "b": "x[:, 3:6]"},
    ),
    "mixing within": Animal(make=lambda: Mixing("within"), rows=FLAT, gathers=False),
    "mixing at the end": Animal(make=lambda: Mixing("at the end"), rows=FLAT, gathers=False),
    "batch statistics": Animal(make=BatchStatistics, rows=FLAT, modalities=OWN, gathers=False),
    "computed": Animal(make=Computed, rows=two((3,), (2, 3)), unmergeable="parametrization"),
    "hooked": Animal(make=Hooked, rows=FLAT, modalities=OWN, unmergeable="computed by a hook"),
    "leaf": Animal(make=Leaf, rows=FLAT, modalities=OWN),
    "three": Animal(make=Three, rows=two((2,), (2,), (2,)), modalities={"a": "a", "b": "b", "c": "c"}),
    "vilt": Animal(
        make=Vilt,
        rows=_vilt,
        modalities=["text", "image"],
        inputs={"text": ["input_ids", "attention_mask"], "image": "pixel_values"},
    ),
}
