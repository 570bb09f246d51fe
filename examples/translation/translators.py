"""Small translators in torch: a GRU with attention, and Transformers of two sizes.

All have one shape. `encode(source)` gives `(memory, state)`, both with the sentences as first
axis; `step(token, memory, state)` gives the logarithms of the next piece's chances and the state
after it; `teach(source, target)` gives the decoder's outputs for whole targets at once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from pairs import LONGEST
from torch import Tensor, nn
from torch.nn import functional


class Recipe(NamedTuple):
    """What a translator is, and how it is trained."""

    kind: str
    width: int
    layers: int
    dropout: float
    rate: float
    epochs: int


RECIPES = {
    "gru-128": Recipe("gru", 128, 1, 0.2, 3e-3, 8),
    "transformer-128": Recipe("transformer", 128, 1, 0.1, 3e-3, 10),
    "transformer-256": Recipe("transformer", 256, 3, 0.2, 1e-3, 10),
}


def make(recipe: Recipe, pieces: int) -> Translator:
    """An untrained translator over a vocabulary of `pieces`."""
    kinds = {"gru": GRUTranslator, "transformer": TransformerTranslator}
    return kinds[recipe.kind](pieces, recipe.width, recipe.layers, recipe.dropout)


class Drop(nn.Module):
    """Dropout that drops the same numbers of all pieces of a sentence (Gal and Ghahramani 2016).

    On a CPU it costs a fraction of what drawing for each piece does.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, values: Tensor) -> Tensor:
        """Drop from (n, t, width), in training only."""
        if not self.training or not self.share:
            return values
        kept = torch.rand(values.shape[0], 1, values.shape[2]) >= self.share
        return values * (kept / (1 - self.share)).to(values.dtype)


class Translator(nn.Module):
    """What all have: one table of embeddings for source, target and output."""

    def __init__(self, pieces: int, width: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.embedding = nn.Embedding(pieces, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.bias = nn.Parameter(torch.zeros(pieces))
        self.drop = Drop(dropout)

    def embed(self, tokens: Tensor) -> Tensor:
        """Embed pieces, (n, t) -> (n, t, width)."""
        values = self.embedding(tokens) * math.sqrt(self.width)
        if torch.is_autocast_enabled("cpu"):
            values = values.bfloat16()  # and with it all that is added to it further up
        return self.drop(values)

    def logits(self, hidden: Tensor) -> Tensor:
        """Score the pieces, (..., width) -> (..., pieces)."""
        return functional.linear(hidden, self.embedding.weight, self.bias)

    def loss(self, hidden: Tensor, wanted: Tensor, smoothing: float) -> Tensor:
        """Mean cross entropy of outputs (n, width) against pieces (n,), labels smoothed."""
        return OutputLoss.apply(hidden, self.embedding.weight, self.bias, wanted, smoothing)


class OutputLoss(torch.autograd.Function):
    """Output layer and smoothed cross entropy in one, some rows at a time.

    A vocabulary's scores of a whole batch are far larger than a processor's cache, and over small
    networks they would take most of the time.
    """

    ROWS = 64

    @staticmethod
    def forward(context, hidden, weight, bias, wanted, smoothing):
        """The mean loss; the derivatives are computed on the way."""
        count, pieces = len(hidden), len(weight)
        rows, table = hidden.bfloat16(), weight.bfloat16()
        by_score = torch.empty(count, pieces, dtype=torch.bfloat16)
        by_bias = torch.zeros(pieces)
        total = 0.0
        for first in range(0, count, OutputLoss.ROWS):
            part = slice(first, first + OutputLoss.ROWS)
            scores = (rows[part] @ table.T).float().add_(bias)
            aim = wanted[part, None]
            top = scores.logsumexp(dim=1, keepdim=True)
            right, all_of_them = scores.gather(1, aim), scores.mean(dim=1, keepdim=True)
            total += float((top - (1 - smoothing) * right - smoothing * all_of_them).sum())
            slope = scores.sub_(top).exp_().sub_(smoothing / pieces)
            slope.scatter_add_(1, aim, torch.full(aim.shape, smoothing - 1.0))
            by_bias += slope.sum(dim=0)
            by_score[part] = slope
        context.save_for_backward(rows, table, by_score, by_bias)
        return torch.tensor(total / count)

    @staticmethod
    def backward(context, slope):
        """By the outputs, the table and the bias."""
        rows, table, by_score, by_bias = context.saved_tensors
        share = slope / len(rows)
        by_rows = (by_score @ table) * share.bfloat16()
        return by_rows, (by_score.T @ rows).float() * share, by_bias * share, None, None


class GRUTranslator(Translator):
    """A GRU that reads both ways, one that writes, and attention between (Luong et al. 2015)."""

    def __init__(self, pieces: int, width: int, layers: int, dropout: float) -> None:
        super().__init__(pieces, width, dropout)
        self.reader = nn.GRU(width, width // 2, layers, batch_first=True, bidirectional=True)
        self.first = nn.Linear(width, width * layers)
        self.writer = nn.GRU(width, width, layers, batch_first=True)
        self.keys = nn.Linear(width, width, bias=False)
        self.mix = nn.Linear(2 * width, width)

    def encode(self, source: Tensor) -> tuple:
        """Read sources (n, s): memory (n, s, width), state (n, layers * width)."""
        memory, _ = self.reader(self.embed(source))
        return memory, torch.tanh(self.first(memory.mean(1)))

    def write(self, tokens: Tensor, memory: Tensor, state: Tensor) -> tuple:
        """Read tokens (n, t): outputs (n, t, width), and the state after the last."""
        count, layers = state.shape[0], self.writer.num_layers
        hidden = state.reshape(count, layers, self.width).transpose(0, 1).contiguous()
        written, hidden = self.writer(self.embed(tokens), hidden)
        weights = torch.softmax(written @ self.keys(memory).transpose(1, 2), dim=-1)
        mixed = torch.tanh(self.mix(torch.cat([written, weights @ memory], dim=-1)))
        return self.drop(mixed), hidden.transpose(0, 1).reshape(count, layers * self.width)

    def step(self, token: Tensor, memory: Tensor, state: Tensor) -> tuple:
        """One piece further, token (n,): (n, pieces), state."""
        hidden, state = self.write(token[:, None], memory, state)
        return torch.log_softmax(self.logits(hidden[:, 0]), dim=-1), state

    def teach(self, source: Tensor, target: Tensor) -> Tensor:
        """Outputs (n, t, width) for whole targets (n, t)."""
        return self.write(target, *self.encode(source))[0]


class Attention(nn.Module):
    """Scaled dot-product attention of several heads (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.both = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def split(self, values: Tensor) -> Tensor:
        """(n, t, width) -> (n, heads, t, width / heads)."""
        count, length, width = values.shape
        return values.reshape(count, length, self.heads, width // self.heads).transpose(1, 2)

    def seen(self, values: Tensor) -> Tensor:
        """Keys and values of what is looked at, (n, 2, heads, t, width / heads)."""
        keys, contents = self.both(values).chunk(2, dim=-1)
        return torch.stack([self.split(keys), self.split(contents)], dim=1)

    def forward(self, values: Tensor, seen: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Look from `values` (n, t, width) at `seen`, save where `hidden` (t, s) is true."""
        query = self.split(self.query(values))
        scores = query @ seen[:, 0].transpose(2, 3) / math.sqrt(query.shape[-1])
        if hidden is not None:
            scores = scores.masked_fill(hidden, float("-inf"))
        looked = torch.softmax(scores, dim=-1) @ seen[:, 1]
        return self.out(looked.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """One layer, normalised before each part; with `cross` it also looks at the source."""

    def __init__(self, width: int, dropout: float, cross: bool) -> None:
        super().__init__()
        heads = width // 32
        self.own = Attention(width, heads)
        self.own_norm = nn.LayerNorm(width)
        if cross:
            self.cross = Attention(width, heads)
            self.cross_norm = nn.LayerNorm(width)
        self.wide = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.ReLU(),
            nn.Linear(2 * width, width),
        )
        self.drop = Drop(dropout)

    def read(self, values: Tensor) -> Tensor:
        """Of the encoder: every piece looks at every piece."""
        normal = self.own_norm(values)
        values = values + self.drop(self.own(normal, self.own.seen(normal)))
        return values + self.drop(self.wide(values))

    def write(self, values: Tensor, memory: Tensor, past: Tensor | None) -> tuple:
        """Of the decoder: pieces look back, and at the source. Also gives what they look at."""
        normal = self.own_norm(values)
        seen = self.own.seen(normal)
        hidden = None
        if past is None:
            length = values.shape[1]
            hidden = torch.ones(length, length, dtype=torch.bool, device=values.device).triu(1)
        else:
            seen = torch.cat([past, seen], dim=3)
        values = values + self.drop(self.own(normal, seen, hidden))
        values = values + self.drop(self.cross(self.cross_norm(values), memory))
        return values + self.drop(self.wide(values)), seen


class TransformerTranslator(Translator):
    """An encoder and a decoder of as many layers, which keeps what it has looked at."""

    def __init__(self, pieces: int, width: int, layers: int, dropout: float) -> None:
        super().__init__(pieces, width, dropout)
        self.readers = nn.ModuleList(Layer(width, dropout, cross=False) for _ in range(layers))
        self.writers = nn.ModuleList(Layer(width, dropout, cross=True) for _ in range(layers))
        self.read_norm = nn.LayerNorm(width)
        self.write_norm = nn.LayerNorm(width)
        self.register_buffer("places", _places(LONGEST + 8, width))

    def encode(self, source: Tensor) -> tuple:
        """Read sources (n, s): what each layer of the decoder looks at, and an empty past.

        Both are (n, layers, 2, heads, pieces, width / heads): keys and values.
        """
        values = self.embed(source) + self.places[: source.shape[1]]
        for layer in self.readers:
            values = layer.read(values)
        values = self.read_norm(values)
        memory = torch.stack([layer.cross.seen(values) for layer in self.writers], dim=1)
        return memory, memory[:, :, :, :, :0]

    def step(self, token: Tensor, memory: Tensor, state: Tensor) -> tuple:
        """One piece further, token (n,): (n, pieces), and the past with that piece."""
        place = state.shape[4]
        values = self.embed(token[:, None]) + self.places[place : place + 1]
        pasts = []
        for number, layer in enumerate(self.writers):
            values, past = layer.write(values, memory[:, number], state[:, number])
            pasts.append(past)
        scores = self.logits(self.write_norm(values[:, 0]))
        return torch.log_softmax(scores, dim=-1), torch.stack(pasts, dim=1)

    def teach(self, source: Tensor, target: Tensor) -> Tensor:
        """Outputs (n, t, width) for whole targets (n, t)."""
        memory, _ = self.encode(source)
        values = self.embed(target) + self.places[: target.shape[1]]
        for number, layer in enumerate(self.writers):
            values, _ = layer.write(values, memory[:, number], None)
        return self.write_norm(values)


def _places(length: int, width: int) -> Tensor:
    """Sines and cosines of the place of a piece, (length, width)."""
    angle = torch.arange(length)[:, None] * torch.exp(
        torch.arange(0, width, 2) * (-math.log(10_000.0) / width)
    )
    return torch.cat([angle.sin(), angle.cos()], dim=1)
