"""A GPT in the shape of GPT-2: learned positions, layer norm first, GELU, head tied to the embedding."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a model.

    ``vocabulary`` is rounded up to a multiple of 64, as is usual: matrix sizes that tensor cores like.
    """

    layers: int
    heads: int
    width: int
    vocabulary: int
    context: int


SHAPES = {
    "tiny": Shape(layers=2, heads=2, width=64, vocabulary=256, context=64),
    "124M": Shape(layers=12, heads=12, width=768, vocabulary=50_304, context=1024),
    "350M": Shape(layers=24, heads=16, width=1024, vocabulary=50_304, context=1024),
}


class Block(nn.Module):
    """Attention, then two linear layers, each added to what came in.

    Args:
        shape: Sizes of the model.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.norm_attention = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm_mlp = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output; both are (batch, length, width)."""
        x = x + self._attend(self.norm_attention(x))
        return x + self.down(functional.gelu(self.up(self.norm_mlp(x))))

    def _attend(self, x: Tensor) -> Tensor:
        # (batch, length, 3 width) -> three of (batch, heads, length, width / heads)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(-2))


class GPT(nn.Module):
    """The language model.

    Args:
        shape: Sizes of the model.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token = nn.Embedding(shape.vocabulary, shape.width)
        self.position = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width, bias=False)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        self.head.weight = self.token.weight
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                # Two layers per block add to the residual stream: their weights start smaller with depth.
                adds = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * shape.layers) if adds else 0.02)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy in nats per token.

        Args:
            tokens: (batch, length), whole numbers below the vocabulary's size.
            targets: The token that follows each of them, (batch, length).
        """
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def flop_per_token(self) -> float:
        """Return the FLOP per token of forward and backward: 6 N, and 12 L W T for attention.

        The usual count (PaLM, arXiv 2204.02311, appendix B): no recomputation, and the half of attention
        that the causal mask saves is not deducted.
        """
        matrices = sum(w.numel() for w in self.parameters() if w.dim() == 2) - self.position.weight.numel()
        shape = self.shape
        return 6.0 * matrices + 12.0 * shape.layers * shape.width * shape.context


def optimizer_for(model: nn.Module, learning_rate: float, *, fused: bool) -> torch.optim.AdamW:
    """Return AdamW; weight decay for matrices only, one fused kernel per group where ``fused``."""
    weights = list(model.parameters())
    groups = [
        {"params": [w for w in weights if w.dim() >= 2], "weight_decay": 0.1},
        {"params": [w for w in weights if w.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=fused)
