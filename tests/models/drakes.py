"""Random weights under the names of DRAKES' inverse folding, and its network written down plainly, in float64."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

MASK = 21  # after the 20 residues and X
PAIRS = "AA NN CC OO BB AN AC AO AB NC NO NB BC BO OC NA CA OA BA CN ON BN CB OB CO"  # A is Cα, B is Cβ


def weights(seed: int, *, width: int = 16, layers: int = 2, letters: int = 22) -> dict[str, Tensor]:
    """Every weight of a network of that size."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}

    def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        found[f"{name}.weight"] = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
        if bias:
            found[f"{name}.bias"] = torch.randn(outputs, generator=generator)

    def norm(name: str) -> None:
        found[f"{name}.weight"] = 1 + 0.3 * torch.randn(width, generator=generator)
        found[f"{name}.bias"] = torch.randn(width, generator=generator)

    linear("features.embeddings.linear", 66, 16)
    linear("features.edge_embedding", 16 + 16 * 25, width, bias=False)
    norm("features.norm_edges")
    linear("W_e", width, width)
    found["W_s.weight"] = torch.randn(letters, width, generator=generator)
    for part, inputs, first in (("encoder", 3, ("W1", "W11")), ("decoder", 4, ("W1",))):
        for i in range(layers):
            at = f"{part}_layers.{i}"
            for name in first:
                linear(f"{at}.{name}", inputs * width, width)
                for more in ("2", "3"):
                    linear(f"{at}.{name[:-1]}{more}", width, width)
            for number in range(1, 4 if part == "encoder" else 3):
                norm(f"{at}.norm{number}")
            linear(f"{at}.dense.W_in", width, 4 * width)
            linear(f"{at}.dense.W_out", 4 * width, width)
    linear("W_out", width, letters)
    return found


def log_probs(named: Mapping[str, Tensor], atoms: Tensor, place: Tensor, chain: Tensor, s: Tensor, k: int) -> Tensor:
    """Log-probabilities `(N, 22)` at residues with letters `s` `(N,)`; N, CA, C and O are at `atoms` `(N, 4, 3)`."""
    w = {name: value.double() for name, value in named.items()}

    def linear(name: str, x: Tensor) -> Tensor:
        out = x @ w[f"{name}.weight"].T
        return out + w[f"{name}.bias"] if f"{name}.bias" in w else out

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def mlp(names: tuple[str, str, str], x: Tensor) -> Tensor:
        return linear(names[2], F.gelu(linear(names[1], F.gelu(linear(names[0], x)))))

    n, a, c, o = atoms.double().unbind(1)
    b, d = a - n, c - a
    places = {"N": n, "A": a, "C": c, "O": o}
    places["B"] = -0.58273431 * torch.linalg.cross(b, d) + 0.56802827 * b - 0.54067466 * d + a
    apart = {p: ((places[p[0]][:, None] - places[p[1]][None]).square().sum(-1) + 1e-6).sqrt() for p in PAIRS.split()}
    near = apart["AA"].argsort(dim=-1)[:, :k]
    rows = torch.arange(len(near))[:, None]
    centres, std = torch.linspace(2, 22, 16).double(), 20 / 16
    radial = [torch.exp(-(((apart[p][rows, near][..., None] - centres) / std) ** 2)) for p in PAIRS.split()]
    offset = (place[:, None] - place[near] + 32).clamp(0, 64)
    offset = torch.where(chain[:, None] == chain[near], offset, torch.full_like(offset, 65))
    along = linear("features.embeddings.linear", F.one_hot(offset, 66).double())
    edges = linear("features.edge_embedding", torch.cat([along, *radial], -1))
    edges = linear("W_e", norm("features.norm_edges", edges))
    nodes = torch.zeros(len(near), edges.shape[-1]).double()
    layers = 1 + max(int(name.split(".")[1]) for name in w if name.startswith("encoder_layers"))

    def updated(at: str, nodes: Tensor, read: Tensor) -> Tensor:
        own = nodes[:, None].expand(-1, near.shape[1], -1)
        message = mlp((f"{at}.W1", f"{at}.W2", f"{at}.W3"), torch.cat([own, read], -1))
        nodes = norm(f"{at}.norm1", nodes + message.sum(1) / 30)
        return norm(f"{at}.norm2", nodes + linear(f"{at}.dense.W_out", F.gelu(linear(f"{at}.dense.W_in", nodes))))

    for i in range(layers):
        at = f"encoder_layers.{i}"
        nodes = updated(at, nodes, torch.cat([edges, nodes[near]], -1))
        own = nodes[:, None].expand(-1, near.shape[1], -1)
        read = torch.cat([own, edges, nodes[near]], -1)
        edges = norm(f"{at}.norm3", edges + mlp((f"{at}.W11", f"{at}.W12", f"{at}.W13"), read))
    letters = w["W_s.weight"][s]
    for i in range(layers):
        nodes = updated(f"decoder_layers.{i}", nodes, torch.cat([edges, letters[near], nodes[near]], -1))
    return linear("W_out", nodes).log_softmax(-1)
