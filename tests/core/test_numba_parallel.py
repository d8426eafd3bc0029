"""Numba's threads: several callers at once, a fork after use, the number of threads put back; arrays without owners."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numba
import numpy as np
import pytest

from recsys_fast import ops
from recsys_fast._numba.parallel import borrowed, serial
from tests.cases.csr import ALL


def test_callers_at_once_and_a_forked_child_are_served() -> None:
    # In a process of its own: the failure this guards against is an abort by numba's thread pool.
    script = """
        import os, threading
        from recsys_fast import ops
        from tests.cases.csr import ALL, triples

        matrix = ALL["many entries"]
        expected = triples(ops.csr_transpose(matrix, device="numba", n_threads=1))
        right = []

        def work():
            for _ in range(5):
                right.append(triples(ops.csr_transpose(matrix, device="numba", n_threads=2)) == expected)

        callers = [threading.Thread(target=work) for _ in range(3)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        child = os.fork()
        if child == 0:
            work()
            os._exit(0 if all(right) else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert right == [True] * 15
        print("served")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "served\n"), done.stderr


@pytest.mark.parametrize("n_threads", [1, 2, 500])
def test_the_number_of_threads_is_put_back(n_threads: int) -> None:
    before = numba.get_num_threads()
    ops.csr_transpose(ALL["random"], device="numba", n_threads=n_threads)
    assert numba.get_num_threads() == before


@serial
def _sum_rows(tables: tuple[np.ndarray, np.ndarray, float]) -> float:
    one, other, total = borrowed(tables)
    for r in range(len(one)):
        total += one[r].sum()
    return total + other[0, 0]


def test_borrowed_arrays_are_read_and_neither_kept_nor_freed() -> None:
    one, other = np.arange(6.0).reshape(3, 2), np.ones((2, 2))
    before = sys.getrefcount(one), sys.getrefcount(other)
    for _ in range(3):
        assert _sum_rows((one, other, 5.0)) == 21.0
    assert (sys.getrefcount(one), sys.getrefcount(other)) == before
    assert one.sum() == 15.0
