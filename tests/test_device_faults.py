"""What goes wrong while the device works: Ctrl-C between launches, and a device that is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast import ops
from recsys_fast.errors import DeviceError
from tests.cases.csr import random_csr
from tests.models.cases import sequences

pytestmark = pytest.mark.cuda_emulated

MODELS: dict[str, tuple[Any, Any]] = {
    "als": (rf.ALS(6, solver="cholesky", n_epochs=3, random_state=0, device="cuda"), random_csr(30, 20, 0.3)),
    "bpr": (rf.BPR(6, n_epochs=3, random_state=0, device="cuda"), random_csr(70, 65, 0.1, values=False)),
    "sasrec": (
        rf.SASRec(8, 1, 2, max_len=6, n_epochs=3, batch_size=4, random_state=0, device="cuda"),
        sequences(12, 15, 8),
    ),
}


class Watch:
    """Sees epochs end, and has the n-th launch of the third one interrupted."""

    def __init__(self, module: Any, n: int) -> None:
        self.module, self.n, self.launches = module, n, [module.counts()[0]]

    def on_epoch_end(self, state: Any) -> None:
        self.launches.append(self.module.counts()[0])
        self.factors = state.model.item_factors_.copy()
        if state.epoch == 2:
            self.module.interrupt_at_launch(self.n)


@pytest.mark.parametrize("name", MODELS)
def test_ctrl_c_is_heard_between_launches(name: str, emulated_arrays: Any) -> None:
    module, (made, data) = emulated_arrays.module, MODELS[name]
    model = type(made)(**made.get_params())
    watch = Watch(module, 5)
    try:
        with pytest.raises(KeyboardInterrupt):
            model.fit(data, callbacks=[watch])
    finally:
        module.interrupt_at_launch(0)
    an_epoch = watch.launches[2] - watch.launches[1]
    assert module.counts()[0] - watch.launches[2] < min(an_epoch, 12)
    assert model.n_epochs_ == 2
    np.testing.assert_array_equal(model.item_factors_, watch.factors)
    model.partial_fit(data)
    assert model.n_epochs_ == 3


def test_an_operation_does_not_wait_for_its_end(emulated_arrays: Any) -> None:
    """Of three launches (the check of the input, two of gram) the third does not happen."""
    module, there = emulated_arrays.module, emulated_arrays.asarray(np.ones((4, 3), np.float32))
    before = module.live_allocations()
    module.interrupt_at_launch(2)
    launches = module.counts()[0]
    with pytest.raises(KeyboardInterrupt):
        ops.gram(there)
    assert module.counts()[0] - launches == 2
    assert module.live_allocations() == before
    assert ops.gram(there).get()[0, 0] == 4.0


def test_a_lost_device_is_reported_once_and_then_named(emulated_arrays: Any) -> None:
    module, there = emulated_arrays.module, emulated_arrays.asarray(np.ones((4, 3), np.float32))
    module.allow_launches(1, True)
    try:
        text = (
            r"kernel launch: cudaErrorLaunchFailure \(injected\). The device's context is lost: start the process again"
        )
        with pytest.raises(DeviceError, match=text):
            ops.gram(there)
        for _ in range(2):
            with pytest.raises(
                DeviceError, match=r"the device was lost before \(kernel launch: .*\). Start the process"
            ):
                ops.gram(there)
    finally:
        module.allow_launches(-1)
    assert ops.gram(there).get()[0, 0] == 4.0
