"""A small language model and its training step, with the FLOP that it needs by the usual count."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Step = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of the model and of its batch."""

    layers: int = 8
    width: int = 2048
    heads: int = 16
    vocabulary: int = 32_768
    sequence: int = 1024
    batch: int = 8

    @property
    def tokens(self) -> int:
        """Tokens of one step."""
        return self.batch * self.sequence

    @property
    def matmul_parameters(self) -> int:
        """N: parameters that are multiplied with every token, the head (tied to the embedding) among them."""
        return 12 * self.layers * self.width**2 + self.vocabulary * self.width

    def flop_6n(self) -> float:
        """Return 6 N per token for one step: forward and backward, attention's products left out."""
        return 6.0 * self.matmul_parameters * self.tokens

    def flop_attention(self) -> float:
        """Return 12 L H Q T per token for one step, as PaLM counts it: the causal mask saves up to half."""
        return 12.0 * self.layers * self.width * self.sequence * self.tokens


def training_step(torch: Any, shape: Shape, device: str = "cuda") -> Step:
    """Return one training step: forward, backward and optimizer, bf16 matrix products, random tokens.

    Args:
        torch: The torch module.
        shape: Sizes.
        device: Where it runs.
    """
    weights = _weights(torch, shape, device)
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-4, fused=device == "cuda")
    size = (shape.batch, shape.sequence)

    def step() -> None:
        tokens = torch.randint(shape.vocabulary, size, device=device)
        targets = torch.randint(shape.vocabulary, size, device=device)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = _loss(torch, weights, shape, tokens, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _weights(torch: Any, shape: Shape, device: str) -> dict[str, Any]:
    """Return the parameters, float32, drawn once."""
    d = shape.width
    sizes: dict[str, tuple[int, ...]] = {"embedding": (shape.vocabulary, d), "position": (shape.sequence, d)}
    for k in range(shape.layers):
        sizes |= {
            f"{k}.norm_1": (d,),
            f"{k}.qkv": (3 * d, d),
            f"{k}.out": (d, d),
            f"{k}.norm_2": (d,),
            f"{k}.up": (4 * d, d),
            f"{k}.down": (d, 4 * d),
        }
    sizes["norm"] = (d,)
    return {
        name: (torch.ones(size, device=device) if len(size) == 1 else torch.randn(size, device=device) * 0.02)
        .detach()
        .requires_grad_()
        for name, size in sizes.items()
    }


def _loss(torch: Any, weights: dict[str, Any], shape: Shape, tokens: Any, targets: Any) -> Any:
    functional = torch.nn.functional
    d = shape.width
    x = functional.embedding(tokens, weights["embedding"]) + weights["position"]
    for k in range(shape.layers):
        x = x + _attention(functional, x, weights, shape, k)
        hidden = functional.layer_norm(x, (d,), weights[f"{k}.norm_2"])
        hidden = functional.gelu(functional.linear(hidden, weights[f"{k}.up"]))
        x = x + functional.linear(hidden, weights[f"{k}.down"])
    x = functional.layer_norm(x, (d,), weights["norm"])
    logits = functional.linear(x, weights["embedding"])
    return functional.cross_entropy(logits.view(-1, shape.vocabulary), targets.view(-1))


def _attention(functional: Any, x: Any, weights: dict[str, Any], shape: Shape, k: int) -> Any:
    batch, length, d = x.shape
    hidden = functional.layer_norm(x, (d,), weights[f"{k}.norm_1"])
    qkv = functional.linear(hidden, weights[f"{k}.qkv"])
    q, key, value = (
        part.view(batch, length, shape.heads, d // shape.heads).transpose(1, 2) for part in qkv.chunk(3, dim=-1)
    )
    mixed = functional.scaled_dot_product_attention(q, key, value, is_causal=True)
    return functional.linear(mixed.transpose(1, 2).reshape(batch, length, d), weights[f"{k}.out"])
