"""ALS and BPR as one composes them of PyTorch's operations, for a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

_BATCH_FLOATS = 1 << 28  # of gathered rows


class TorchAls:
    """Exact sweeps: rows of like lengths padded into batches, batched products, batched Cholesky.

    The objective is ``sum_observed (s - 1)^2 + w0 sum_all s^2 + sum_u reg (n_u + w0 n)^nu |x_u|^2``.
    """

    def __init__(self, matrix: Any, d: int, w0: float, reg: float, nu: float, device: str) -> None:
        self.w0, self.reg, self.nu, self.device = w0, reg, nu, device
        torch.manual_seed(0)
        users, items = matrix.tocsr(), matrix.T.tocsr()
        self.x = torch.zeros(users.shape[0], d, device=device)
        self.y = 0.1 / d**0.5 * torch.randn(items.shape[0], d, device=device)
        self.by_user, self.by_item = self._batches(users, d), self._batches(items, d)

    def _batches(self, csr: Any, d: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Rows, their padded columns, and their penalties."""
        lengths = np.diff(csr.indptr)
        order, found = np.argsort(lengths, kind="stable"), []
        begin = int(np.searchsorted(lengths[order], 1))
        while begin < len(order):
            end = begin + 1
            while end < len(order) and (end + 1 - begin) * int(lengths[order[end]]) * d <= _BATCH_FLOATS:
                end += 1
            rows = order[begin:end]
            columns = np.full((len(rows), int(lengths[rows[-1]])), -1, np.int64)
            for k, row in enumerate(rows):
                columns[k, : lengths[row]] = csr.indices[csr.indptr[row] : csr.indptr[row + 1]]
            penalty = self.reg * (lengths[rows] + self.w0 * csr.shape[1]) ** self.nu
            parts = (rows.astype(np.int64), columns, penalty.astype(np.float32))
            found.append(tuple(torch.from_numpy(part).to(self.device) for part in parts))
            begin = end
        return found

    def _half(self, x: torch.Tensor, y: torch.Tensor, batches: list[Any]) -> None:
        gram = self.w0 * (y.T @ y)
        for rows, columns, penalty in batches:
            g = y[columns.clamp(min=0)] * (columns >= 0)[..., None]
            a = g.transpose(1, 2) @ g + gram
            a.diagonal(dim1=1, dim2=2).add_(penalty[:, None])
            x[rows] = torch.cholesky_solve(g.sum(1)[..., None], torch.linalg.cholesky(a))[..., 0]

    @torch.no_grad()
    def epoch(self) -> None:
        """Solve all users, then all items."""
        self._half(self.x, self.y, self.by_user)
        self._half(self.y, self.x, self.by_item)


class TorchBpr:
    """Batches of random interactions with one negative each, all of whose gradients are added at once."""

    def __init__(self, matrix: Any, d: int, rate: float, penalty: float, device: str, batch: int = 1 << 16) -> None:
        torch.manual_seed(0)
        coo = matrix.tocoo()
        self.users, self.items = (torch.from_numpy(part.astype(np.int64)).to(device) for part in (coo.row, coo.col))
        self.x, self.y = (0.1 / d**0.5 * torch.randn(n, d, device=device) for n in matrix.shape)
        self.rate, self.penalty, self.batch, self.device = rate, penalty, batch, device

    @torch.no_grad()
    def epoch(self) -> None:
        """Train as many samples as there are interactions."""
        n = len(self.users)
        for at in range(0, n, self.batch):
            chosen = torch.randint(n, (min(self.batch, n - at),), device=self.device)
            u, i = self.users[chosen], self.items[chosen]
            j = torch.randint(len(self.y), (len(chosen),), device=self.device)
            xu, yi, yj = self.x[u], self.y[i], self.y[j]
            slope = self.rate * torch.sigmoid(-(xu * (yi - yj)).sum(1, keepdim=True))
            decay = self.rate * self.penalty
            self.x.index_add_(0, u, slope * (yi - yj) - decay * xu)
            self.y.index_add_(0, i, slope * xu - decay * yi)
            self.y.index_add_(0, j, -slope * xu - decay * yj)
