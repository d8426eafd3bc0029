"""SASRec in PyTorch, twice: as the standard public implementations compute it, and as fast as PyTorch allows.

Both are the network of Kang and McAuley 2018 (queries normalised, keys and values not; layer norm 1e-8; inner width d),
with the two-layer feed-forward part and the output projection of ``nn.MultiheadAttention``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

PAD = 0  # item ids are shifted by one


class StandardBlock(nn.Module):
    """Self-attention by ``nn.MultiheadAttention`` on padded sequences, feed-forward by convolutions of width 1."""

    def __init__(self, d: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d, eps=1e-8), nn.LayerNorm(d, eps=1e-8)
        self.attention = nn.MultiheadAttention(d, n_heads, dropout)
        self.inner, self.outer = nn.Conv1d(d, d, 1), nn.Conv1d(d, d, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, future: torch.Tensor) -> torch.Tensor:
        x = x.transpose(0, 1)
        q = self.norm1(x)
        x = (q + self.attention(q, x, x, attn_mask=future)[0]).transpose(0, 1)
        y = self.norm2(x)
        inner = F.relu(self.drop(self.inner(y.transpose(-1, -2))))
        return y + self.drop(self.outer(inner)).transpose(-1, -2)


class FastBlock(nn.Module):
    """The same arithmetic with fused attention and linear layers."""

    def __init__(self, d: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d, eps=1e-8), nn.LayerNorm(d, eps=1e-8)
        self.query, self.key_value, self.out = nn.Linear(d, d), nn.Linear(d, 2 * d), nn.Linear(d, d)
        self.inner, self.outer = nn.Linear(d, d), nn.Linear(d, d)
        self.n_heads, self.dropout = n_heads, dropout

    def forward(self, x: torch.Tensor, future: torch.Tensor) -> torch.Tensor:
        b, n, d = x.shape
        q = self.norm1(x)
        k, v = self.key_value(x).split(d, -1)
        heads = [part.reshape(b, n, self.n_heads, -1).transpose(1, 2) for part in (self.query(q), k, v)]
        p = self.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(*heads, dropout_p=p, is_causal=True)
        x = q + self.out(found.transpose(1, 2).reshape(b, n, d))
        y = self.norm2(x)
        return y + F.dropout(self.outer(F.relu(F.dropout(self.inner(y), p))), p)


class TorchSasRec:
    """Trains epoch by epoch; sequences are lists of items 0 .. n_items - 1.

    Args:
        row_ptr, items: ragged training sequences.
        n_items: size of the catalogue.
        standard: the padded public form; else attention by ``scaled_dot_product_attention``, batches cut to the
            longest sequence of a bucket of like lengths, Adam fused.
        loss: "bce" with one uniform unverified negative a place, or "ce" over all items.
        bf16: products in bfloat16 (autocast).
        device: where it trains; on a GPU the batches are there from the start, the same ones every epoch.
        compiled: the fast form by ``torch.compile``, on shapes that do not change: padded, losses masked.
    """

    def __init__(
        self,
        row_ptr: np.ndarray,
        items: np.ndarray,
        n_items: int,
        *,
        standard: bool,
        d: int = 50,
        n_blocks: int = 2,
        n_heads: int = 1,
        max_len: int = 50,
        dropout: float = 0.2,
        loss: str = "bce",
        batch_size: int = 128,
        learning_rate: float = 0.001,
        bf16: bool = False,
        device: str = "cpu",
        compiled: bool = False,
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        self.random = np.random.default_rng(seed)
        self.standard, self.loss, self.bf16, self.batch_size = standard, loss, bf16, batch_size
        self.device, self.compiled = torch.device(device), compiled
        self.max_len, self.n_items, self.d = max_len, n_items, d
        self.sequences = [
            items[max(row_ptr[s], row_ptr[s + 1] - max_len - 1) : row_ptr[s + 1]] + 1
            for s in range(len(row_ptr) - 1)
            if row_ptr[s + 1] - row_ptr[s] > 1
        ]
        self.n_events = sum(len(s) - 1 for s in self.sequences)
        self.items = nn.Embedding(n_items + 1, d, padding_idx=PAD)
        self.places = nn.Embedding(max_len + 1, d, padding_idx=0)
        block = StandardBlock if standard else FastBlock
        self.blocks = nn.ModuleList(block(d, n_heads, dropout) for _ in range(n_blocks))
        self.last, self.drop = nn.LayerNorm(d, eps=1e-8), nn.Dropout(dropout)
        self.network = nn.ModuleList([self.items, self.places, self.blocks, self.last, self.drop])
        for name, parameter in self.network.named_parameters():  # start values are those of rf.SASRec
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        for table in (self.items, self.places):
            table.weight.data[PAD] = 0
        self.network.to(self.device)
        self._mean_loss = torch.compile(self._masked_loss) if compiled else self._loss
        self._resident = None if self.device.type == "cpu" else [*map(self._padded, self._batches())]
        fused = {} if standard else {"fused": True}
        self.optimizer = torch.optim.Adam(self.network.parameters(), learning_rate, **fused)

    def _hidden(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs for padded inputs (b, n): padding in front; positions count to the end, which is ``max_len``."""
        n = x.shape[1]
        place = torch.arange(self.max_len - n + 1, self.max_len + 1, device=x.device)[None, :] * (x != PAD)
        h = self.drop(self.items(x) * self.d**0.5 + self.places(place))
        future = ~torch.tril(torch.ones(n, n, dtype=torch.bool, device=x.device))
        for block in self.blocks:
            h = block(h, future)
        return self.last(h)

    def _batches(self) -> list[np.ndarray]:
        order = self.random.permutation(len(self.sequences))
        if not self.standard:  # buckets of like lengths inside stretches of many batches
            lengths = np.array([len(self.sequences[s]) for s in order])
            stretch = 64 * self.batch_size
            pieces = [
                order[at : at + stretch][np.argsort(lengths[at : at + stretch])] for at in range(0, len(order), stretch)
            ]
            order = np.concatenate(pieces)
        cut = [order[at : at + self.batch_size] for at in range(0, len(order), self.batch_size)]
        return [cut[k] for k in self.random.permutation(len(cut))]

    def epoch(self) -> float:
        """Train one epoch; return the mean loss per token."""
        self.network.train()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for x, y in map(self._padded, self._batches()) if self._resident is None else self._resident:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                loss = self._mean_loss(x, y)
            self.optimizer.zero_grad(set_to_none=not self.standard)
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * (y != PAD).sum()
        return float(total) / self.n_events

    def _padded(self, batch: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets (b, n) of sequences, padded in front."""
        chosen = [self.sequences[s] for s in batch]
        n = self.max_len if self.standard or self.compiled else max(len(s) for s in chosen) - 1
        x = np.zeros((len(chosen), n), np.int64)
        y = np.zeros((len(chosen), n), np.int64)
        for row, s in enumerate(chosen):
            x[row, n - len(s) + 1 :], y[row, n - len(s) + 1 :] = s[:-1], s[1:]
        return torch.from_numpy(x).to(self.device), torch.from_numpy(y).to(self.device)

    def _masked_loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """``_loss`` without a shape that depends on the data."""
        h, real = self._hidden(x), y != PAD
        if self.loss == "ce":
            scores = h.reshape(-1, self.d) @ self.items.weight[1:].T
            return F.cross_entropy(scores, y.reshape(-1) - 1, ignore_index=-1)
        negatives = torch.randint(1, self.n_items + 1, y.shape, device=y.device)
        positive, negative = (h * self.items(y)).sum(-1), (h * self.items(negatives)).sum(-1)
        return ((F.softplus(-positive) + F.softplus(negative)) * real).sum() / real.sum()

    def _loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        h, real = self._hidden(x), y != PAD
        if self.loss == "ce":
            return F.cross_entropy(h[real] @ self.items.weight[1:].T, y[real] - 1)
        negatives = torch.randint(1, self.n_items + 1, y.shape, device=y.device)
        if not self.standard:
            h, y, negatives, real = h[real], y[real], negatives[real], ...
        positive, negative = (h * self.items(y)).sum(-1), (h * self.items(negatives)).sum(-1)
        one = F.binary_cross_entropy_with_logits(positive[real], torch.ones_like(positive[real]))
        return one + F.binary_cross_entropy_with_logits(negative[real], torch.zeros_like(negative[real]))

    @torch.no_grad()
    def scoring(self, row_ptr: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (queries, item vectors) for histories."""
        self.network.eval()
        out = np.zeros((len(row_ptr) - 1, self.d), np.float32)
        for at in range(0, len(out), 512):
            x = np.zeros((min(512, len(out) - at), self.max_len), np.int64)
            for row in range(len(x)):
                begin, end = row_ptr[at + row], row_ptr[at + row + 1]
                part = items[max(begin, end - self.max_len) : end] + 1
                x[row, self.max_len - len(part) :] = part
            out[at : at + len(x)] = self._hidden(torch.from_numpy(x))[:, -1].float().numpy()
        return out, np.ascontiguousarray(self.items.weight[1:].detach().numpy())
