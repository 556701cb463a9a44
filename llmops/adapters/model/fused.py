"""Layers that compute what transformers and PEFT compute, with fewer passes over memory.

The base is frozen: no gradient of its weights is ever formed. LoRA's factors are kept in fp32 and
used in the base's precision, as mixed precision does. Knows nothing of data or files.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import Tensor, nn

CHUNK_TOKENS = 256  # answer tokens whose logits exist at one time


class LoraLinear(PeftLinear):
    """PEFT's LoRA layer with the sum x Wᵀ + s (x Aᵀ) Bᵀ and its gradients in one step."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Apply the base layer and, unless adapters are disabled, the active adapter."""
        name = self.active_adapters[0] if self.active_adapters else ""
        if self.disable_adapters or name not in self.lora_A:
            return self.base_layer(x)  # type: ignore[no-any-return]
        if self.training and not isinstance(self.lora_dropout[name], nn.Identity):
            return super().forward(x, *args, **kwargs)
        if self.base_layer.bias is not None or x.ndim != 3:
            return super().forward(x, *args, **kwargs)
        down, up = self.lora_A[name].weight, self.lora_B[name].weight
        return _LoraLinear.apply(x, self.base_layer.weight, down, up, self.scaling[name])


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        down, up = down.to(x.dtype), up.to(x.dtype)
        inner = (flat @ down.t()).mul_(scale)
        out = (flat @ weight.t()).addmm_(inner, up.t())
        ctx.save_for_backward(flat, weight, down, up, inner)
        ctx.scale, ctx.shape = scale, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        flat, weight, down, up, inner = ctx.saved_tensors
        grad = grads[0].reshape(-1, grads[0].shape[-1])
        of_up = (grad.t() @ inner).float()
        of_inner = (grad @ up).mul_(ctx.scale)
        of_down = (of_inner.t() @ flat).float()
        of_x = (grad @ weight).addmm_(of_inner, down)
        return of_x.view(ctx.shape), None, of_down, of_up, None


class RmsNorm(nn.Module):
    """Llama's norm over a frozen weight; rounds where transformers' own layer rounds."""

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight = weight
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Return x / rms(x) * weight over the last axis."""
        return _RmsNorm.apply(x, self.weight, self.epsilon)  # type: ignore[no-any-return, no-untyped-call]


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        factor = size.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        unit = torch.mul(x, factor, out=torch.empty_like(x))
        ctx.save_for_backward(unit, factor, weight)
        return unit * weight

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        unit, factor, weight = ctx.saved_tensors
        grad = grads[0] * weight
        along = (grad * unit).mean(-1, keepdim=True)
        grad = grad.addcmul_(unit, along, value=-1)
        return torch.mul(grad, factor, out=grad), None, None


def fuse_norms(model: nn.Module) -> None:
    """Replace every norm of a Llama model by the fused one, over the same weights."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LlamaRMSNorm):
                setattr(module, name, RmsNorm(child.weight, child.variance_epsilon))


def mean_answer_loss(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Return the mean negative log-likelihood, in nats, of ``targets``.

    Forms logits for ``CHUNK_TOKENS`` positions at a time and turns them into the gradient at once,
    so that the vocabulary-sized array is small and never kept.

    Args:
        hidden: (answers, size): the states that predict each answer token.
        head: (vocabulary, size): the frozen output layer.
        targets: (answers,): token ids.
    """
    return _MeanAnswerLoss.apply(hidden, head, targets)  # type: ignore[no-any-return, no-untyped-call]


class _MeanAnswerLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        grad = torch.empty_like(hidden)
        total = torch.zeros((), device=hidden.device)
        for start in range(0, len(targets), CHUNK_TOKENS):
            part = slice(start, start + CHUNK_TOKENS)
            logits = (hidden[part] @ head.t()).float()
            goal = targets[part, None]
            norm = torch.logsumexp(logits, -1, keepdim=True)
            total += (norm - logits.gather(1, goal)).sum()
            error = logits.sub_(norm).exp_()  # the probabilities, in place
            error.scatter_add_(1, goal, torch.full_like(norm, -1.0))
            grad[part] = error.to(hidden.dtype) @ head
        ctx.save_for_backward(grad)
        ctx.count = len(targets)
        return total / len(targets)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = ctx.saved_tensors
        return grad * (grads[0] / ctx.count), None, None


@torch.inference_mode()
def answer_nll(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Return each target's negative log-likelihood in nats, fp32; arguments as above."""
    parts = []
    for start in range(0, len(targets), CHUNK_TOKENS):
        part = slice(start, start + CHUNK_TOKENS)
        logits = (hidden[part] @ head.t()).float()
        chosen = logits.gather(1, targets[part, None])[:, 0]
        parts.append(torch.logsumexp(logits, -1) - chosen)
    return torch.cat(parts)
