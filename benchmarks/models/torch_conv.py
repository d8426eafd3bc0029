"""Caser and NextItNet in PyTorch, as the published codes compute them.

Tang and Wang 2018: windows of L items and T targets per user, k negatives an instance. Yuan et al. 2019: residual
blocks of dilated causal convolutions; here as suites train it, every prefix being a padded sample with one target.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class TorchCaser:
    """Trains epoch by epoch on windows ``(n, L)``, targets ``(n, T)`` and their users; -1 pads."""

    def __init__(
        self,
        inputs: np.ndarray,
        targets: np.ndarray,
        users: np.ndarray,
        n_users: int,
        n_items: int,
        *,
        d: int = 50,
        n_horizontal: int = 16,
        n_vertical: int = 4,
        n_negatives: int = 3,
        dropout: float = 0.5,
        batch_size: int = 512,
        learning_rate: float = 0.001,
        weight_decay: float = 1e-6,
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        self.random = np.random.default_rng(seed)
        self.data = [torch.from_numpy(np.ascontiguousarray(a).astype(np.int64)) for a in (inputs, targets, users)]
        self.n_items, self.d, self.n_negatives, self.batch_size = n_items, d, n_negatives, batch_size
        self.n_events = len(inputs)
        window = inputs.shape[1]
        self.users, self.items = nn.Embedding(n_users, d), nn.Embedding(n_items + 1, d, padding_idx=0)
        self.vertical = nn.Conv2d(1, n_vertical, (window, 1))
        self.horizontal = nn.ModuleList(nn.Conv2d(1, n_horizontal, (k + 1, d)) for k in range(window))
        self.dense = nn.Linear(n_vertical * d + n_horizontal * window, d)
        self.out, self.bias = (
            nn.Embedding(n_items + 1, 2 * d, padding_idx=0),
            nn.Embedding(n_items + 1, 1, padding_idx=0),
        )
        self.drop = nn.Dropout(dropout)
        for table in (self.users, self.items, self.out):
            table.weight.data.normal_(0, 1.0 / table.embedding_dim)
        self.bias.weight.data.zero_()
        parts = [self.users, self.items, self.vertical, self.horizontal, self.dense, self.out, self.bias, self.drop]
        self.network = nn.ModuleList(parts)
        self.optimizer = torch.optim.Adam(self.network.parameters(), learning_rate, weight_decay=weight_decay)

    def _hidden(self, x: torch.Tensor, users: torch.Tensor) -> torch.Tensor:
        image = self.items(x + 1)[:, None]
        parts = [self.vertical(image).flatten(1)]
        for layer in self.horizontal:
            found = F.relu(layer(image)[..., 0])
            parts.append(F.max_pool1d(found, found.shape[2])[..., 0])
        z = F.relu(self.dense(self.drop(torch.cat(parts, 1))))
        return torch.cat([z, self.users(users)], 1)

    def epoch(self) -> float:
        """Train one epoch; return the mean loss."""
        self.network.train()
        order = torch.from_numpy(self.random.permutation(len(self.data[0])))
        total = 0.0
        for rows in order.split(self.batch_size):
            x, y, users = (a[rows] for a in self.data)
            negatives = torch.randint(1, self.n_items + 1, (len(rows), self.n_negatives))
            items = torch.cat([y + 1, negatives], 1)
            scores = (self.out(items) @ self._hidden(x, users)[:, :, None] + self.bias(items))[..., 0]
            positive, negative = scores[:, : y.shape[1]], scores[:, y.shape[1] :]
            loss = -F.logsigmoid(positive).mean() - F.logsigmoid(-negative).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += float(loss.detach()) * len(rows)
        return total / len(order)


class ResidualBlock(nn.Module):
    """conv(dilation) - layer norm - relu - conv(2 dilation) - layer norm - relu, plus the input."""

    def __init__(self, d: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(d, d, kernel_size, dilation=dilation)
        self.conv2 = nn.Conv1d(d, d, kernel_size, dilation=2 * dilation)
        self.norm1, self.norm2 = nn.LayerNorm(d, eps=1e-8), nn.LayerNorm(d, eps=1e-8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            reach = (conv.kernel_size[0] - 1) * conv.dilation[0]
            h = F.relu(norm(conv(F.pad(h.transpose(1, 2), (reach, 0))).transpose(1, 2)))
        return x + h


class TorchNextItNet:
    """Trains on prefixes padded in front to ``max_len``, one target each, softmax over all items.

    An epoch is ``n_batches`` batches of random prefixes, None for all prefixes.
    """

    def __init__(
        self,
        row_ptr: np.ndarray,
        items: np.ndarray,
        n_items: int,
        *,
        d: int = 64,
        dilations: tuple[int, ...] = (1, 4, 1, 4),
        n_rounds: int = 5,
        kernel_size: int = 3,
        max_len: int = 50,
        n_batches: int | None = None,
        batch_size: int = 2048,
        learning_rate: float = 0.001,
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        self.random = np.random.default_rng(seed)
        self.row_ptr, self.sequence, self.max_len, self.batch_size = row_ptr, items, max_len, batch_size
        owner = np.repeat(np.arange(len(row_ptr) - 1), np.diff(row_ptr))
        place = np.arange(len(items)) - row_ptr[owner]
        self.targets = np.flatnonzero(place > 0)
        self.first = row_ptr[owner]
        self.n_events = len(self.targets) if n_batches is None else min(len(self.targets), n_batches * batch_size)
        self.table, self.out = nn.Embedding(n_items + 1, d, padding_idx=0), nn.Linear(d, d)
        self.blocks = nn.Sequential(*(ResidualBlock(d, kernel_size, k) for k in dilations * n_rounds))
        self.network = nn.ModuleList([self.table, self.out, self.blocks])
        nn.init.uniform_(self.table.weight, -((1.0 / n_items) ** 0.5), (1.0 / n_items) ** 0.5)
        self.optimizer = torch.optim.Adam(self.network.parameters(), learning_rate)

    def epoch(self) -> float:
        """Train one epoch; return the mean loss."""
        self.network.train()
        order, total = self.random.permutation(self.targets)[: self.n_events], 0.0
        back = np.arange(self.max_len, 0, -1)
        for at in range(0, len(order), self.batch_size):
            t = order[at : at + self.batch_size]
            source = t[:, None] - back[None, :]
            x = np.where(source >= self.first[t][:, None], self.sequence[np.maximum(source, 0)] + 1, 0)
            h = self.blocks(self.table(torch.from_numpy(x.astype(np.int64))))[:, -1]
            loss = F.cross_entropy(
                self.out(h) @ self.table.weight[1:].T, torch.from_numpy(self.sequence[t].astype(np.int64))
            )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += float(loss.detach()) * len(t)
        return total / len(order)
