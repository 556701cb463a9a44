"""Attention over rows that begin with the same tokens, which are then computed only once.

Chats of one prompt share their system text and instruction. A batch is laid out as one sequence:
the shared prefix, then what follows it in each row, padded to one length. The causal mask makes
the prefix's states the same in every row, so outputs and gradients are those of separate rows.

Plugs into transformers' attention interface; knows nothing of tuning or generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NAME = "llmops_rows"


class Layout(Protocol):
    """Says how one call's tokens see each other; passed to the model as ``layout``."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Return the attention's output, shaped (1, tokens, heads, size).

        ``query`` is (1, heads, tokens, size); ``key`` and ``value`` have fewer heads if grouped.
        """
        ...


def register() -> None:
    """Make ``attn_implementation=NAME`` known to transformers; calling it again is harmless."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, _no_mask)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    layout: Layout,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    return layout.attend(module.layer_idx, query, key, value, scaling), None


def _no_mask(*_: Any, **__: Any) -> None:
    """Layouts hold their own masks."""


@dataclass(frozen=True)
class SharedPrefix:
    """Tokens in order: ``prefix`` shared ones, then ``rows`` times ``length`` of their own.

    ``mask`` is (length, prefix + length), zero where a token may look and minus infinity
    elsewhere. Padding stands at the end of a row, where no real token looks.
    """

    prefix: int
    rows: int
    length: int
    mask: Tensor

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See ``Layout.attend``."""
        parts = [self._rows(query, self.keys(key), self.keys(value), scale)]
        if self.prefix:
            parts.insert(0, self._prefix(query, key, value, scale))
        return torch.cat(parts, 1)

    def keys(self, states: Tensor) -> Tensor:
        """Return (rows, heads, prefix + length, size): each row's states behind the prefix's."""
        own = self._own(states)
        shared = states[:, :, : self.prefix].expand(self.rows, -1, -1, -1)
        return torch.cat([shared, own], 2)

    def _own(self, states: Tensor) -> Tensor:
        heads, size = states.shape[1], states.shape[3]
        own = states[0, :, self.prefix :].reshape(heads, self.rows, self.length, size)
        return own.transpose(0, 1)

    def _rows(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        out = grouped_attention(self._own(query), key, value, self.mask, scale)
        return out.transpose(1, 2).reshape(1, self.rows * self.length, out.shape[1], -1)

    def _prefix(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        size = self.prefix
        mask = causal_mask(size, 0, query.device)
        query, key, value = query[:, :, :size], key[:, :, :size], value[:, :, :size]
        return grouped_attention(query, key, value, mask, scale).transpose(1, 2)


def causal_mask(length: int, before: int, device: torch.device | None = None) -> Tensor:
    """Return (length, before + length): token i may look at ``before`` tokens and up to itself."""
    seen = torch.ones(length, before + length, dtype=torch.bool, device=device).tril(before)
    return torch.zeros(seen.shape, device=device).masked_fill_(~seen, float("-inf"))


def grouped_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float
) -> Tensor:
    """Scaled dot-product attention in which groups of query heads share a key head.

    Folding a group into the token axis spares the copies of keys and values. Without gradients
    PyTorch's tiled kernel is several times as fast on a CPU as plain matrix products; backwards
    these are faster at the few hundred tokens of a row.

    Args:
        query: (rows, heads, tokens, size).
        key: (rows, key heads, seen, size).
        value: Like ``key``.
        mask: (tokens, seen), added to the scores; or (rows, 1, seen), for one token
            a row and without gradients.
        scale: Factor on the scores.
    """
    rows, heads, tokens, size = query.shape
    groups, seen = key.shape[1], key.shape[2]
    share = heads // groups
    folded = query.reshape(rows, groups, share * tokens, size)
    mask = (mask[:, None] if mask.ndim == 3 else mask.repeat(share, 1)).to(query.dtype)
    if not torch.is_grad_enabled():
        tiled = scaled_dot_product_attention(folded, key, value, attn_mask=mask, scale=scale)
        return tiled.view(rows, heads, tokens, size)
    out: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        folded.flatten(0, 1),
        key.reshape(rows * groups, seen, size),
        value.reshape(rows * groups, seen, size),
        mask,
        scale,
    )
    return out.view(rows, heads, tokens, size)


class _Attention(torch.autograd.Function):
    """softmax(scale q kᵀ + mask) v, keeping only the probabilities for the way back."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
        weights = torch.softmax(torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale), -1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale = scale
        return torch.bmm(weights, v)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, weights = ctx.saved_tensors
        grad = grads[0]
        of_weights = torch.bmm(grad, v.transpose(1, 2))
        # The softmax's own derivative, fused: weights * (g - sum(weights * g)).
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_scores = of_scores.mul_(ctx.scale)
        of_q = torch.bmm(of_scores, k)
        of_k = torch.bmm(of_scores.transpose(1, 2), q)
        return of_q, of_k, torch.bmm(weights.transpose(1, 2), grad), None, None


def shared_prefix(rows: Sequence[tuple[int, ...]], *, most: int) -> int:
    """Return how many leading tokens all ``rows`` share, at most ``most``."""
    low, high = min(rows), max(rows)  # all others lie between these two in dictionary order
    limit = min(len(low), len(high), most)
    return next((i for i in range(limit) if low[i] != high[i]), limit)
