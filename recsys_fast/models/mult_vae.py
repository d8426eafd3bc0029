"""Autoencoders with a multinomial likelihood: Mult-VAE and Mult-DAE."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from recsys_fast.blocks.base import Array, Block, PackedBatch
from recsys_fast.blocks.csr_dense import CsrDense
from recsys_fast.blocks.csr_losses import MultinomialLoss
from recsys_fast.blocks.dense import Dense
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.blocks.latent import GaussianLatent
from recsys_fast.errors import DivergedError, message
from recsys_fast.models import inputs
from recsys_fast.models.autoencoder import WIDEST, SparseBatch, UserAutoencoder, uniform_table
from recsys_fast.models.parameters import check_choice, check_float, check_int
from recsys_fast.models.sgd_factors import check_flag
from recsys_fast.ops import Csr
from recsys_fast.ops.block_arguments import FROM_RESULT
from recsys_fast.ops.losses import COMPUTE, compute_number
from recsys_fast.training.network import Network

WEIGHTS = ("none", "values")
_LARGEST_DIVERGENCE = 1e30  # of a batch: beyond, gradients leave float32


class MultinomialObjective:
    """The multinomial log-likelihood of the batch's rows, and the divergence of latent variables where there are any.

    Args:
        compute: of ``MultinomialLoss``.
        kl_cap: largest weight of the divergence.
        kl_steps: in step s the weight is min(kl_cap, s / kl_steps); 0 for ``kl_cap`` at once.
    """

    def __init__(self, compute: str, kl_cap: float = 0.0, kl_steps: int = 0) -> None:
        self.likelihood, self.kl_cap, self.kl_steps = MultinomialLoss(compute), kl_cap, kl_steps

    def kl_weight(self, step: int) -> float:
        """Return the weight of the divergence in a step, counted from 0."""
        return min(self.kl_cap, step / self.kl_steps) if self.kl_steps else self.kl_cap

    def __call__(self, network: Network, h: Array, batch: SparseBatch, packed: PackedBatch) -> tuple[float, int, Array]:
        """Return the sum over the rows of what training goes down, their number, and the gradient of h of the mean.

        Raises:
            DivergedError: the divergence is not a number that gradients could be made of.
        """
        n, total = len(batch.items), 0.0
        for block in network.blocks:
            if isinstance(block, GaussianLatent):
                weight = self.kl_weight(packed.step)
                if not block.divergence < _LARGEST_DIVERGENCE:
                    expected = f"a finite number below {_LARGEST_DIVERGENCE:g}"
                    mend = "lower learning_rate, or raise kl_steps or kl_cap"
                    what = "KL divergence of the latent variables"
                    raise DivergedError(message(what, block.divergence, expected, mend))
                block.kl_weight, total = weight / n, weight * block.divergence
        loss, dh = self.likelihood.loss(network.items, h, batch.items, 1.0 / n)
        return total + loss, n, dh


class MultDAE(UserAutoencoder):
    """Denoising autoencoder with a multinomial likelihood (Liang et al. 2018).

    A user's items x, scaled to length 1 and some of them dropped, pass layers of widths ``hidden``, ``n_factors`` and
    ``hidden`` backwards to h; the items are distributed as softmax(h . e_i + b_i), and training goes down

        - sum over users of sum_i x_ui log softmax(h_u E^T + b)_i

    over all items, without a matrix of users x items. New users are one pass through the network (``fold_in``,
    ``recommend(user_items=...)``); a user without interactions gets what the network makes of nothing. Results are the
    same bits for any number of threads.

    Args:
        n_factors: width of the middle layer.
        hidden: widths of the layers before it, from the items on; those behind it are the same backwards.
        activation: "tanh", "relu", "sigmoid" or "identity".
        dropout: rate at which items that go in are dropped in training.
        normalize: whether what goes in has length 1.
        sample_weight: "none": every interaction counts 1; "values": its value, going in and coming out.
        optimizer: "adam", "adamw", "adagrad" or "sgd".
        learning_rate: at its highest.
        weight_decay: see ``recsys_fast.training.optimizers.Optimizer``.
        clip_norm: largest length of a step's gradient; None for any.
        lazy_moments: whether a step of Adam leaves weights of items that it does not touch as they are. Only the first
            layer has such items, as all come out. Faster, and not quite the published Adam.
        warmup_steps: over so many steps the learning rate grows linearly.
        schedule: "constant", "linear" or "cosine".
        batch_size: users of a step.
        n_epochs: passes over all users.
        compute: "float32" or "bfloat16" for the products with the items, where the CPU has it and on CUDA.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        item_factors_: ``(n_items, d + 1) float32``, the bias last; d is the width of the last layer.
        history_: ``{"loss": [...], metrics ...}``, one number per epoch; the loss is the mean per user.
        seed_: the int that all random numbers came from.
        n_epochs_: finished epochs.

    References:
        Liang, Krishnan, Hoffman, Jebara: Variational Autoencoders for Collaborative Filtering, WWW 2018.
    """

    activation: str

    def __init__(
        self,
        n_factors: int = 200,
        hidden: Sequence[int] = (),
        *,
        activation: str = "tanh",
        dropout: float = 0.5,
        normalize: bool = True,
        sample_weight: str = "none",
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        lazy_moments: bool = False,
        warmup_steps: int = 0,
        schedule: str = "constant",
        batch_size: int = 500,
        n_epochs: int = 100,
        compute: str = "float32",
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_factors = n_factors
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.normalize = normalize
        self.sample_weight = sample_weight
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.lazy_moments = lazy_moments
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.compute = compute
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state

    def _check_params(self) -> None:
        super()._check_params()
        check_int("n_factors", self.n_factors, 1, WIDEST)
        self._check_hidden()
        check_choice("activation", self.activation, FROM_RESULT)
        check_float("dropout", self.dropout, 0.0, high=0.99)
        check_flag("normalize", self.normalize)
        check_choice("sample_weight", self.sample_weight, WEIGHTS)
        check_choice("compute", self.compute, COMPUTE)
        compute_number(self.compute, self.device)

    def _prepare(self, matrix: Csr) -> Csr:
        if matrix.values is not None and matrix.nnz and float(matrix.values.min()) < 0.0:
            name, mend = type(self).__name__, "drop what users dislike, or shift the values"
            what = f"smallest value, which {name} takes for liked"
            raise ValueError(message(what, matrix.values.min(), "0 or more", mend))
        matrix = inputs.drop_zeros(matrix)
        if self.sample_weight == "none" or inputs.all_ones(matrix):
            return matrix._replace(values=None)
        return matrix

    def _encoder(self, table: ItemTable, activation: str) -> CsrDense:
        return CsrDense(table, activation, dropout=self.dropout, normalize=self.normalize)

    def _layers(self, widths: Sequence[int], name: str) -> dict[str, Block]:
        """Return layers from each width to the next."""
        return {f"{name}{k}": Dense(a, b, self.activation) for k, (a, b) in enumerate(pairwise(widths))}

    def _parts(self, n_users: int, n_items: int) -> tuple[list[ItemTable], dict[str, Block]]:
        widths = [*self.hidden, self.n_factors, *self.hidden[::-1]]
        items = uniform_table("items", n_items, widths[-1], bias=True)
        inputs_table = uniform_table("inputs", n_items, widths[0])
        first: dict[str, Block] = {"encoder": self._encoder(inputs_table, self.activation)}
        return [items, inputs_table], first | self._layers(widths, "dense")

    def _objective(self) -> MultinomialObjective:
        return MultinomialObjective(self.compute)

    def _batch_bytes(self, data: Csr) -> int:
        width = (*self.hidden, self.n_factors)[0]
        n_rows = min(self.batch_size, data.n_rows)
        # scores of a block of rows are kept, and each of 16 slots of items has a gradient of theirs
        block = min(n_rows, 512 if width > 256 else 64) + 64
        return super()._batch_bytes(data) + 4 * block * (data.n_cols + 18 * (width + 64))


class MultVAE(MultDAE):
    """Variational autoencoder with a multinomial likelihood (Liang et al. 2018).

    As ``MultDAE``, but the middle layer gives means mu and log variances of ``n_factors`` normal variables, of which
    training draws a sample z and what comes behind gets mu elsewhere; training goes down

        - sum over users of sum_i x_ui log softmax(h_u E^T + b)_i + beta KL(N(mu_u, sigma_u^2) || N(0, 1))

    where beta grows from 0 by 1 / ``kl_steps`` a step up to ``kl_cap``.

    Args:
        n_factors: number of latent variables.
        hidden: widths of the layers before them, from the items on; those behind are the same backwards.
        kl_cap: largest weight beta of the divergence.
        kl_steps: see above; 0 for ``kl_cap`` from the first step on.
        activation, dropout, normalize, sample_weight, optimizer, learning_rate, weight_decay, clip_norm, lazy_moments,
            warmup_steps, schedule, batch_size, n_epochs, compute, device, n_threads, random_state: as of ``MultDAE``.

    Attributes:
        item_factors_, history_, seed_, n_epochs_: as of ``MultDAE``; the loss includes the weighted divergence.

    References:
        Liang, Krishnan, Hoffman, Jebara: Variational Autoencoders for Collaborative Filtering, WWW 2018.
        Kingma, Welling: Auto-Encoding Variational Bayes, ICLR 2014.
    """

    def __init__(
        self,
        n_factors: int = 200,
        hidden: Sequence[int] = (600,),
        *,
        kl_cap: float = 0.2,
        kl_steps: int = 20_000,
        activation: str = "tanh",
        dropout: float = 0.5,
        normalize: bool = True,
        sample_weight: str = "none",
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        lazy_moments: bool = False,
        warmup_steps: int = 0,
        schedule: str = "constant",
        batch_size: int = 500,
        n_epochs: int = 100,
        compute: str = "float32",
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            n_factors, hidden, activation=activation, dropout=dropout, normalize=normalize,
            sample_weight=sample_weight, optimizer=optimizer, learning_rate=learning_rate, weight_decay=weight_decay,
            clip_norm=clip_norm, lazy_moments=lazy_moments, warmup_steps=warmup_steps, schedule=schedule,
            batch_size=batch_size, n_epochs=n_epochs, compute=compute, device=device, n_threads=n_threads,
            random_state=random_state,
        )  # fmt: skip
        self.kl_cap = kl_cap
        self.kl_steps = kl_steps

    def _check_params(self) -> None:
        super()._check_params()
        check_float("kl_cap", self.kl_cap, 0.0, high=1e6)
        check_int("kl_steps", self.kl_steps, 0)

    def _parts(self, n_users: int, n_items: int) -> tuple[list[ItemTable], dict[str, Block]]:
        widths, k = list(self.hidden), self.n_factors
        items = uniform_table("items", n_items, widths[0] if widths else k, bias=True)
        inputs_table = uniform_table("inputs", n_items, widths[0] if widths else 2 * k)
        blocks: dict[str, Block] = {"encoder": self._encoder(inputs_table, self.activation if widths else "identity")}
        blocks |= self._layers(widths, "dense")
        if widths:
            blocks["stats"] = Dense(widths[-1], 2 * k, "identity")
        return [items, inputs_table], {
            **blocks, "latent": GaussianLatent(k), **self._layers([k, *widths[::-1]], "decoder")
        }  # fmt: skip

    def _objective(self) -> MultinomialObjective:
        return MultinomialObjective(self.compute, self.kl_cap, self.kl_steps)
