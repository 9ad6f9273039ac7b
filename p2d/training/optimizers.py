"""What turns gradients into steps: AdamW, and Muon for the weights of convolutions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

BETAS = (0.9, 0.99)
# Its learning rate over AdamW's: a step turns a weight by about its rate, whatever the gradient's size.
MUON_RATE = 10.0
MOMENTUM = 0.95
# Newton-Schulz quintic that carries singular values from (0, 1] to about 1 in five steps (Jordan et al. 2024).
QUINTIC, ITERATIONS = (3.4445, -4.7750, 2.0315), 5


def optimizers(model: nn.Module, kind: str, learning_rate: float, weight_decay: float) -> list[Optimizer]:
    """The optimizers of a model's trained parameters, each parameter in one.

    Args:
        kind: 'adamw' (Loshchilov & Hutter 2019), or 'muon' for convolutions with AdamW for the rest.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim == 4] if kind == "muon" else []
    rest = [p for p in trained if p.ndim != 4] if kind == "muon" else trained
    steppers: list[Optimizer] = []
    if matrices:
        steppers.append(Muon(matrices, MUON_RATE * learning_rate, weight_decay))
    if rest:
        steppers.append(AdamW(rest, lr=learning_rate, weight_decay=weight_decay, betas=BETAS))
    return steppers


def set_rate(steppers: list[Optimizer], share: float) -> None:
    """Set every learning rate to this share of its peak."""
    for stepper in steppers:
        for group in stepper.param_groups:
            group["lr"] = stepper.defaults["lr"] * share


class Muon(Optimizer):
    """Momentum whose step is made orthogonal: every direction of a weight, seen as a matrix, moves alike.

    Jordan et al. 2024, "Muon: an optimizer for hidden layers". Weights are [outputs, ...], seen as [outputs, rest].
    """

    def __init__(self, weights: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take a step along the orthogonalised momentum of each weight."""
        for group in self.param_groups:
            # Weights of one shape together: there are many, and each is small.
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.shape].append(weight)
            for weights in alike.values():
                moves = orthogonal(torch.stack([m.flatten(1) for m in self._momenta(weights)]))
                outputs, inputs = moves.shape[-2:]
                size = group["lr"] * max(1.0, outputs / inputs) ** 0.5
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                for weight, move in zip(weights, moves, strict=True):
                    weight.sub_(move.view_as(weight), alpha=size)

    def _momenta(self, weights: list[Tensor]) -> list[Tensor]:
        """The gradients, moved on by Nesterov's momentum."""
        for weight in weights:
            if "momentum" not in self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        gradients = [w.grad for w in weights if w.grad is not None]  # all of them, as `step` sees to it
        momenta = [self.state[w]["momentum"] for w in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        return list(torch._foreach_lerp(gradients, momenta, MOMENTUM))


def orthogonal(matrices: Tensor) -> Tensor:
    """About U V' of the singular value decomposition U S V' of each matrix, [N, R, C]: singular values near 1."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-30)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
