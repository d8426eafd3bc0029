"""The peers that train by stochastic gradient descent, each as something that trains some epochs and then scores."""

from __future__ import annotations

import os
import time
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # what implicit asks for

import numpy as np
from scipy import sparse

import recsys_fast as rf
from benchmarks import data

Tables = tuple[np.ndarray, np.ndarray]
SEED = 7


class Ours:
    """A model of this package, one epoch at a time as ``fit`` does it (copy of the last epoch and checks included).

    ``seconds`` is what the first epoch and the preparations before it took.
    """

    def __init__(self, model: Any, matrix: Any) -> None:
        start = time.perf_counter()
        self.model = model.set_params(n_epochs=1).fit(matrix)
        self.seconds = time.perf_counter() - start
        self.trainer = model._resume()

    def epoch(self) -> None:
        self.trainer.epoch()
        self.model.n_epochs_ += 1

    def tables(self) -> Tables:
        queries, items = self.model._scoring()
        return queries, items


def with_bias(users: np.ndarray, items: np.ndarray, biases: np.ndarray | None) -> Tables:
    """Return float32 tables whose products are the scores."""
    if biases is not None:
        users, items = np.c_[users, np.ones(len(users))], np.c_[items, biases]
    return np.ascontiguousarray(users, np.float32), np.ascontiguousarray(items, np.float32)


class Implicit:
    """implicit's BPR or logistic matrix factorization; its ``fit`` goes on from where the last one ended."""

    def __init__(
        self, kind: str, matrix: Any, d: int, rate: float, penalty: float, n_threads: int, negatives: int
    ) -> None:
        from implicit.bpr import BayesianPersonalizedRanking
        from implicit.lmf import LogisticMatrixFactorization

        self.matrix = data.for_peer(matrix)
        common = {"factors": d, "learning_rate": rate, "regularization": penalty, "num_threads": n_threads}
        if kind == "bpr":
            self.model = BayesianPersonalizedRanking(iterations=1, random_state=SEED, **common)
        else:
            self.model = LogisticMatrixFactorization(iterations=1, neg_prop=negatives, random_state=SEED, **common)

    def epoch(self) -> None:
        self.model.fit(self.matrix, show_progress=False)

    def tables(self) -> Tables:
        return with_bias(self.model.user_factors, self.model.item_factors, None)  # biases are columns already


class LightFm:
    """LightFM with identity features: BPR or WARP by Adagrad."""

    def __init__(self, kind: str, matrix: Any, d: int, rate: float, penalty: float, n_threads: int) -> None:
        from lightfm import LightFM

        self.matrix, self.n_threads = sparse.coo_matrix(data.for_peer(matrix)), n_threads
        self.model = LightFM(
            d, loss=kind, learning_rate=rate, item_alpha=penalty, user_alpha=penalty, random_state=SEED
        )

    def epoch(self) -> None:
        self.model.fit_partial(self.matrix, epochs=1, num_threads=self.n_threads)

    def tables(self) -> Tables:
        return with_bias(self.model.user_embeddings, self.model.item_embeddings, self.model.item_biases)


class Cornac:
    """cornac's BPR or MF; goes on from its own parameters."""

    def __init__(self, kind: str, matrix: Any, d: int, rate: float, penalty: float, n_threads: int) -> None:
        from cornac.data import Dataset
        from cornac.models import BPR, MF

        coo = sparse.coo_matrix(matrix)
        self.data = Dataset.from_uir(
            list(zip(coo.row.tolist(), coo.col.tolist(), coo.data.tolist(), strict=True)), SEED
        )
        self.shape, self.kind = matrix.shape, kind
        common = {"k": d, "max_iter": 1, "learning_rate": rate, "lambda_reg": penalty, "num_threads": n_threads}
        self.model = (BPR if kind == "bpr" else MF)(seed=SEED, verbose=False, **common)

    def epoch(self) -> None:
        self.model.fit(self.data)

    def _in_our_order(self, table: np.ndarray, ids: Any, n: int) -> np.ndarray:
        out = np.zeros((n, *table.shape[1:]), np.float32)
        out[np.fromiter(ids.keys(), np.int64)] = table[np.fromiter(ids.values(), np.int64)]
        return out

    def tables(self) -> Tables:
        model = self.model
        users = self._in_our_order(model.u_factors, self.data.uid_map, self.shape[0])
        items = self._in_our_order(model.i_factors, self.data.iid_map, self.shape[1])
        biases = self._in_our_order(model.i_biases, self.data.iid_map, self.shape[1])
        if self.kind == "mf":
            constant = self._in_our_order(model.u_biases, self.data.uid_map, self.shape[0]) + model.global_mean
            users, items = np.c_[users, constant], np.c_[items, np.ones(len(items), np.float32)]
        return with_bias(users, items, biases)


class LibMf:
    """libmf on ratings, without biases (it has none); every call trains ``epochs`` epochs from scratch."""

    def __init__(self, matrix: Any, d: int, rate: float, penalty: float, n_threads: int, epochs: int) -> None:
        from libmf import mf

        coo = sparse.coo_array(matrix)
        self.rows = np.stack([coo.row, coo.col, coo.data], axis=1, dtype=np.float32)  # it reads the memory row by row
        self.model = mf.MF(
            k=d,
            nr_iters=epochs,
            eta=rate,
            lambda_p1=0.0,
            lambda_q1=0.0,
            lambda_p2=penalty,
            lambda_q2=penalty,
            nr_threads=n_threads,
            quiet=True,
        )

    def epochs(self) -> None:
        self.model.fit(self.rows)

    def predict(self, test: Any) -> np.ndarray:
        """Return its predictions; from its factors, as its own ``predict`` misreads its input."""
        coo = sparse.coo_array(test)
        users, items = (self._whole(table, n) for table, n in zip(self._factors(), test.shape, strict=True))
        predicted = np.einsum("ij,ij->i", users[coo.row], items[coo.col])
        return np.where(np.isnan(predicted), self.rows[:, 2].mean(), predicted)

    def _factors(self) -> Tables:
        return self.model.p_factors(), self.model.q_factors()

    @staticmethod
    def _whole(table: np.ndarray, n: int) -> np.ndarray:
        """Return the table with rows of NaN for what comes behind the last id of the training data."""
        return np.concatenate([table, np.full((max(0, n - len(table)), table.shape[1]), np.nan, np.float32)])


def ranking(tables: Tables, train: Any, test: Any, k: int = 20) -> dict[str, float]:
    """Return recall@k and ndcg@k of the scores ``users @ items.T``, seen items left out."""
    found = rf.ops.rank_metrics(tables[1], tables[0], test, [k], seen=train)
    return {f"{name}@{k}": float(np.nanmean(found[name])) for name in ("recall", "ndcg")}
