"""Mult-VAE in PyTorch: the usual port over dense rows, and one whose first layer is an EmbeddingBag.

Liang, Krishnan, Hoffman, Jebara 2018: I-600-400(200)-600-I with tanh, dropout of the normalised input, a multinomial
likelihood by log_softmax over all items, and a divergence whose weight grows to a cap; Adam.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class TorchVae(nn.Module):
    """Trains epoch by epoch over the rows of a CSR matrix that have an entry.

    Args:
        row_ptr, items: the users' items.
        n_items: size of the catalogue.
        dense: whether rows go in as dense vectors; else as bags of the items that dropout keeps.
        bfloat16: run the products in bfloat16 (autocast).
    """

    def __init__(
        self,
        row_ptr: np.ndarray,
        items: np.ndarray,
        n_items: int,
        *,
        hidden: int = 600,
        k: int = 200,
        dense: bool = False,
        bfloat16: bool = False,
        dropout: float = 0.5,
        learning_rate: float = 1e-3,
        kl_cap: float = 0.2,
        kl_steps: int = 20_000,
        batch_size: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.random = np.random.default_rng(seed)
        self.row_ptr, self.col, self.n_items = row_ptr, items.astype(np.int64), n_items
        self.users = np.flatnonzero(np.diff(row_ptr))
        self.dense, self.bfloat16, self.rate, self.batch_size = dense, bfloat16, dropout, batch_size
        self.kl_cap, self.kl_steps, self.steps = kl_cap, kl_steps, 0
        bound = (6.0 / (n_items + hidden)) ** 0.5
        if dense:
            self.first = nn.Linear(n_items, hidden)
            nn.init.uniform_(self.first.weight, -bound, bound)
        else:
            self.first = nn.EmbeddingBag(n_items, hidden, mode="sum")
            nn.init.uniform_(self.first.weight, -bound, bound)
            self.first_bias = nn.Parameter(torch.zeros(hidden))
        self.stats, self.middle, self.last = nn.Linear(hidden, 2 * k), nn.Linear(k, hidden), nn.Linear(hidden, n_items)
        nn.init.uniform_(self.last.weight, -bound, bound)
        nn.init.zeros_(self.last.bias)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=learning_rate, fused=True)
        self.loss = float("nan")

    def encode(self, ptr: np.ndarray, col: np.ndarray, training: bool) -> torch.Tensor:
        """Return mu and log variances of rows in CSR."""
        lengths = np.diff(ptr)
        values = np.repeat((1.0 / np.sqrt(np.maximum(lengths, 1))).astype(np.float32), lengths)
        if self.dense:
            x = torch.zeros(len(lengths), self.n_items)
            x[torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)), torch.from_numpy(col)] = torch.from_numpy(
                values
            )
            h = self.first(F.dropout(x, self.rate, training))
        else:
            if training:
                kept = self.random.random(len(col)) >= self.rate
                before = np.concatenate([[0], np.cumsum(kept)])
                ptr, col, values = before[ptr], col[kept], values[kept] / np.float32(1 - self.rate)
            bags = torch.from_numpy(col), torch.from_numpy(np.ascontiguousarray(ptr[:-1]))
            h = self.first(*bags, per_sample_weights=torch.from_numpy(values)) + self.first_bias
        return self.stats(torch.tanh(h))

    def epoch(self) -> None:
        """Train one epoch; ``loss`` becomes its mean per user."""
        order, total = self.random.permutation(self.users), 0.0
        for start in range(0, len(order), self.batch_size):
            users = order[start : start + self.batch_size]
            lengths = self.row_ptr[users + 1] - self.row_ptr[users]
            ptr = np.concatenate([[0], np.cumsum(lengths)])
            col = self.col[np.repeat(self.row_ptr[users] - ptr[:-1], lengths) + np.arange(ptr[-1])]
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bfloat16):
                loss = self._loss(ptr, col, lengths)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.steps += 1
            total += float(loss.detach()) * len(users)
        self.loss = total / len(order)

    def _loss(self, ptr: np.ndarray, col: np.ndarray, lengths: np.ndarray) -> torch.Tensor:
        mu, v = self.encode(ptr, col, True).float().chunk(2, dim=1)
        z = mu + torch.exp(0.5 * v) * torch.randn_like(v)
        log_p = F.log_softmax(self.last(torch.tanh(self.middle(z))).float(), dim=1)
        rows = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))
        if self.dense:
            x = torch.zeros_like(log_p)
            x[rows, torch.from_numpy(col)] = 1.0
            likelihood = -(log_p * x).sum()
        else:
            likelihood = -log_p[rows, torch.from_numpy(col)].sum()
        divergence = 0.5 * (v.exp() + mu**2 - 1 - v).sum()
        return (likelihood + min(self.kl_cap, self.steps / self.kl_steps) * divergence) / len(lengths)

    @torch.no_grad()
    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Return queries and items whose products are the scores of all users."""
        h = []
        for start in range(0, len(self.row_ptr) - 1, 2048):
            ptr = self.row_ptr[start : start + 2049]
            mu = self.encode(ptr - ptr[0], self.col[ptr[0] : ptr[-1]], False).chunk(2, dim=1)[0]
            h.append(torch.tanh(self.middle(mu)).numpy())
        queries = np.concatenate(h)
        ones = np.ones((len(queries), 1), np.float32)
        return np.hstack([queries, ones]), np.hstack([self.last.weight.numpy(), self.last.bias.numpy()[:, None]])
