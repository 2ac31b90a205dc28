"""What goes wrong in real training loops, one function each. Do not copy from here."""

import sys
from collections.abc import Iterable

import torch.distributed as dist
from torch import Tensor, nn


def exchange_one_by_one(weights: Iterable[Tensor]) -> None:
    """Average the gradients over all ranks, one after the other, when the backward pass is over.

    Right: DistributedDataParallel, which sends buckets of them while the backward pass still computes,
    and only in the last micro-batch of a step (``no_sync`` in the others).
    """
    for weight in weights:
        if weight.grad is not None:
            dist.all_reduce(weight.grad)
            weight.grad /= dist.get_world_size()


def log_synchronously(model: nn.Module, loss: Tensor, micro_step: int) -> None:
    """Print loss and figures of every gradient, and flush, at every micro-step.

    Each ``item()`` makes the host wait for the GPU, and then the GPU for the host's next kernel: three per
    gradient here. Right: read the loss every few seconds; stack figures on the GPU, copy them at once.
    """
    squares, largest, zeros = 0.0, 0.0, 0.0
    for weight in model.parameters():
        if weight.grad is not None:
            squares += weight.grad.square().sum().item()
            largest = max(largest, weight.grad.abs().max().item())
            zeros += (weight.grad == 0).sum().item()
    sys.stdout.write(
        f"micro-step {micro_step:6d}  loss {loss.item():.4f}  gradient norm {squares**0.5:.4f}  "
        f"largest {largest:.2e}  zeros {zeros:.0f}\n"
    )
    sys.stdout.flush()
