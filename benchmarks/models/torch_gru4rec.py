"""GRU4Rec in PyTorch with the semantics of the official code, and LSTMs with sampled softmax, packed and padded.

Hidasi, Karatzoglou, Baltrunas, Tikk 2016; Hidasi and Karatzoglou 2018: session-parallel minibatches of an event a lane,
hidden states carried on without gradients through time, the other lanes' targets and shared samples as negatives, input
and output embeddings in one table, Adagrad.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class TorchGru4Rec:
    """Trains epoch by epoch.

    Args:
        row_ptr, items: sessions.
        n_items: size of the catalogue.
        loss: "ce" or "bpr_max".
        alpha: samples are drawn in proportion to popularity^alpha.
        log_q: weight of the correction of scores by the log of the sampling probability ("ce" only).
        regularization: of the scores of negatives ("bpr_max" only).
        elu: what the scores of "bpr_max" pass through, an ELU of this slope; 0 leaves them as they are.
        device: where it trains.
    """

    def __init__(
        self,
        row_ptr: np.ndarray,
        items: np.ndarray,
        n_items: int,
        *,
        d: int = 100,
        loss: str = "ce",
        batch_size: int = 64,
        n_negatives: int = 2048,
        alpha: float = 0.5,
        log_q: float = 1.0,
        learning_rate: float = 0.05,
        momentum: float = 0.0,
        dropout_input: float = 0.0,
        dropout_hidden: float = 0.0,
        regularization: float = 1.0,
        elu: float = 0.0,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        self.random, self.device = np.random.default_rng(seed), torch.device(device)
        self.row_ptr, self.sessions = row_ptr, items
        self.loss, self.batch_size, self.n_negatives = loss, batch_size, n_negatives
        self.log_q, self.regularization, self.elu = log_q, regularization, elu
        self.rate, self.momentum = learning_rate, momentum
        self.drop_input, self.drop_hidden = dropout_input, dropout_hidden
        counts = np.bincount(items, minlength=n_items).astype(np.float64)
        self.cdf = np.cumsum(counts**alpha)
        self.log_p = torch.from_numpy(np.log(np.maximum(counts, 1e-12) / counts.sum())).float().to(self.device)
        q = counts**alpha
        self.log_q_items = torch.from_numpy(np.log(np.maximum(q, 1e-12) / q.sum())).float().to(self.device)
        self.table = nn.Parameter(torch.empty(n_items, d, device=self.device))
        self.bias = nn.Parameter(torch.zeros(n_items, 1, device=self.device))
        nn.init.uniform_(self.table, -((6 / (n_items + d)) ** 0.5), (6 / (n_items + d)) ** 0.5)
        self.cell = nn.GRUCell(d, d, device=self.device)
        for weight in (self.cell.weight_ih, self.cell.weight_hh):
            for part in weight.data.split(d):
                nn.init.xavier_uniform_(part)
        for bias in (self.cell.bias_ih, self.cell.bias_hh):
            nn.init.zeros_(bias)
        self.sums = {id(p): torch.zeros_like(p) for p in (self.table, self.bias, *self.cell.parameters())}
        lengths = np.diff(row_ptr)
        self.n_events = int(np.maximum(lengths - 1, 0).sum())

    def epoch(self) -> float:
        """Train one epoch in session-parallel minibatches; return the mean loss per event."""
        long = np.flatnonzero(np.diff(self.row_ptr) > 1)
        waiting = list(self.random.permutation(long)[::-1])
        lanes = min(self.batch_size, len(waiting))
        at = np.empty(lanes, np.int64)
        end = np.empty(lanes, np.int64)
        for lane in range(lanes):
            session = waiting.pop()
            at[lane], end[lane] = self.row_ptr[session], self.row_ptr[session + 1]
        h = torch.zeros(lanes, self.table.shape[1], device=self.device)
        total, seen = 0.0, 0
        while len(at) > 1:
            x, y = self._ids(self.sessions[at]), self._ids(self.sessions[at + 1])
            loss, h = self._step(x, y, h)
            total, seen = total + loss, seen + len(at)
            at = at + 1
            done = np.flatnonzero(at + 1 >= end)
            keep = np.ones(len(at), bool)
            for lane in done:
                h[lane] = 0
                if waiting:
                    session = waiting.pop()
                    at[lane], end[lane] = self.row_ptr[session], self.row_ptr[session + 1]
                else:
                    keep[lane] = False
            if not keep.all():
                at, end, h = at[keep], end[keep], h[torch.from_numpy(keep).to(self.device)]
        return total / max(1, seen)

    def _step(self, x: torch.Tensor, y: torch.Tensor, h: torch.Tensor) -> tuple[float, torch.Tensor]:
        draws = self.random.random(self.n_negatives) * self.cdf[-1]
        candidates = torch.cat([y, self._ids(np.searchsorted(self.cdf, draws, side="right"))])
        n = len(x)
        rows = torch.cat([x, candidates])
        gathered = self.table.detach()[rows].requires_grad_()
        bias = self.bias.detach()[candidates].requires_grad_()
        h = self.cell(F.dropout(gathered[:n], self.drop_input), h)
        hidden = F.dropout(h, self.drop_hidden)
        scores = hidden @ gathered[n:].T + bias.T
        if self.loss == "ce":
            correction = torch.cat([self.log_p[candidates[:n]], self.log_q_items[candidates[n:]]])
            own = torch.arange(n, device=self.device)
            loss = F.cross_entropy(scores - self.log_q * correction, own, reduction="sum")
        else:
            scores = F.elu(scores, self.elu) if self.elu else scores
            own = torch.eye(n, len(candidates), dtype=torch.bool, device=self.device)
            weights = torch.softmax(scores.masked_fill(own, -torch.inf), 1)
            target = scores.diagonal()[:, None]
            ranked = -torch.log((weights * torch.sigmoid(target - scores)).sum(1) + 1e-24)
            loss = (ranked + self.regularization * (weights * scores**2).sum(1)).sum()
        loss = loss / self.batch_size
        loss.backward()
        with torch.no_grad():
            for parameter in self.cell.parameters():
                self._adagrad(parameter, parameter.grad, slice(None))
                parameter.grad = None
            self._adagrad_rows(self.table, rows, gathered.grad)
            self._adagrad_rows(self.bias, candidates, bias.grad)
        return float(loss.detach()) * self.batch_size, h.detach()

    def _ids(self, numbers: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(numbers.astype(np.int64)).to(self.device)

    def _adagrad(self, parameter: torch.Tensor, grad: torch.Tensor, rows: object) -> None:
        sums = self.sums[id(parameter)]
        sums[rows] += grad**2
        parameter[rows] -= self.rate * grad / torch.sqrt(sums[rows] + 1e-6)

    def _adagrad_rows(self, parameter: torch.Tensor, rows: torch.Tensor, grad: torch.Tensor) -> None:
        unique, place = torch.unique(rows, return_inverse=True)
        summed = torch.zeros(len(unique), grad.shape[1], device=self.device).index_add_(0, place, grad)
        self._adagrad(parameter, summed, unique)

    @torch.no_grad()
    def scoring(self, row_ptr: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (queries with a one at the end, item vectors with the bias at the end) for histories."""
        lengths = np.diff(row_ptr)
        h = torch.zeros(len(lengths), self.table.shape[1])
        for k in range(int(lengths.max(initial=0))):
            on = np.flatnonzero(lengths > k)
            rows = torch.from_numpy(on)
            x = self.table[torch.from_numpy(items[row_ptr[on] + k].astype(np.int64))]
            h[rows] = self.cell(x, h[rows])
        queries = np.c_[h.numpy(), np.ones(len(h), np.float32)]
        return queries.astype(np.float32), np.ascontiguousarray(torch.cat([self.table, self.bias], 1).detach().numpy())


class TorchLstm:
    """One LSTM or GRU layer (cuDNN's on a GPU) and sampled softmax; sequences packed, or padded by bucket.

    The candidates of an event are the batch's targets and uniform draws, without those that are its own target.
    """

    def __init__(
        self,
        row_ptr: np.ndarray,
        items: np.ndarray,
        n_items: int,
        *,
        packed: bool,
        cell: str = "lstm",
        d: int = 64,
        n_negatives: int = 2048,
        batch_size: int = 128,
        max_len: int = 200,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        self.random = np.random.default_rng(seed)
        self.device = torch.device(device)
        self.packed, self.n_negatives, self.batch_size, self.n_items = packed, n_negatives, batch_size, n_items
        self.sequences = [
            items[max(row_ptr[s], row_ptr[s + 1] - max_len - 1) : row_ptr[s + 1]].astype(np.int64)
            for s in range(len(row_ptr) - 1)
            if row_ptr[s + 1] - row_ptr[s] > 1
        ]
        self.n_events = sum(len(s) - 1 for s in self.sequences)
        layer = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.table = nn.Embedding(n_items, d, device=self.device)
        self.cell = layer(d, d, batch_first=True, device=self.device)
        self.max_len = max_len
        near, far = (3 / d) ** 0.5, (6 / (n_items + d)) ** 0.5  # start values are those of rf.GRU4Rec
        nn.init.uniform_(self.table.weight, -far, far)
        for name, parameter in self.cell.named_parameters():
            bound = near if name.startswith("weight") else 0.0
            nn.init.uniform_(parameter, -bound, bound)
        parameters = [*self.table.parameters(), *self.cell.parameters()]
        self.optimizer = torch.optim.Adam(parameters, 0.001, fused=True)

    def epoch(self) -> float:
        """Train one epoch; return the mean loss per event."""
        order = np.argsort([len(s) for s in self.sequences], kind="stable")
        cut = [order[at : at + self.batch_size] for at in range(0, len(order), self.batch_size)]
        total = 0.0
        for k in self.random.permutation(len(cut)):
            chosen = sorted((self.sequences[s] for s in cut[k]), key=len, reverse=True)
            y = torch.from_numpy(np.concatenate([s[1:] for s in chosen])).to(self.device)
            h = self._hidden([torch.from_numpy(s[:-1]) for s in chosen])
            negatives = torch.from_numpy(self.random.integers(self.n_items, size=self.n_negatives)).to(self.device)
            candidates, own = torch.cat([y, negatives]), torch.arange(len(y), device=self.device)
            equal = candidates[None, :] == y[:, None]
            equal[own, own] = False
            scores = (h @ self.table(candidates).T).masked_fill_(equal, -torch.inf)
            loss = F.cross_entropy(scores, own)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += float(loss.detach()) * len(y)
        return total / self.n_events

    def _hidden(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Outputs of all sequences one behind the other."""
        padded = nn.utils.rnn.pad_sequence(inputs, batch_first=True).to(self.device)
        lengths = torch.tensor([len(s) for s in inputs])
        real = torch.arange(padded.shape[1])[None, :] < lengths[:, None]
        x = self.table(padded)
        if self.packed:
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
            x = nn.utils.rnn.pad_packed_sequence(self.cell(packed)[0], batch_first=True)[0]
        else:
            x = self.cell(x)[0]
        return x[real.to(self.device)]

    @torch.no_grad()
    def scoring(self, row_ptr: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (queries, item vectors) for histories; an empty one gives zeros."""
        table = self.table.weight.detach().numpy()
        out = np.zeros((len(row_ptr) - 1, table.shape[1]), np.float32)
        rows = np.flatnonzero(np.diff(row_ptr))
        for at in range(0, len(rows), 512):
            some = rows[at : at + 512]
            histories = [items[max(row_ptr[s], row_ptr[s + 1] - self.max_len) : row_ptr[s + 1]] for s in some]
            order = np.argsort([-len(s) for s in histories], kind="stable")
            h = self._hidden([torch.from_numpy(histories[k].astype(np.int64)) for k in order])
            out[some[order]] = h[np.cumsum([len(histories[k]) for k in order]) - 1].numpy()
        return out, table.copy()
