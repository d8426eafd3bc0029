"""The check of launch limits sees a kernel that spills, or that takes more than a block can have."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.emulated.build import CSRC

CHECK = runpy.run_path(str(CSRC / "cuda" / "check_ptxas.py"))

LOG = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN11recsys_fast38_GLOBAL__N__f7_7_gram_cu_83b18fbc_209311gram_kernelEPfPKflll' for 'sm_90'
ptxas info    : Function properties for _ZN11recsys_fast38_GLOBAL__N__f7_7_gram_cu_83b18fbc_209311gram_kernelEPfPKflll
    {stack} bytes stack frame, {spill} bytes spill stores, {spill} bytes spill loads
ptxas info    : Used {registers} registers, used 1 barriers, {shared} bytes smem, 392 bytes cmem[0]
ptxas info    : Compiling entry function '_ZN11recsys_fast12other_kernelILi4EEEvPf' for 'sm_80'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used {more} registers, 352 bytes cmem[0]
"""  # noqa: E501
SOUND = {"stack": 16, "spill": 0, "registers": 128, "shared": 8192, "more": 64}


@pytest.mark.parametrize(
    ("change", "report"),
    [
        ({}, []),
        ({"spill": 8}, ["gram_kernel for sm_90 spills 16 bytes of registers"]),
        ({"shared": 50000}, ["gram_kernel for sm_90 takes 50000 bytes of static shared memory"]),
        ({"more": 65}, ["other_kernelILi4EE for sm_80 takes 65 registers and has no __launch_bounds__"]),
    ],
)
def test_limits_are_checked(change: dict[str, int], report: list[str]) -> None:
    found = CHECK["kernels"](LOG.format(**{**SOUND, **change}))
    assert [kernel.name for kernel in found] == ["gram_kernel", "other_kernelILi4EE"]
    assert CHECK["faults"](found, {"gram_kernel": True}) == report


def test_bounds_are_read_from_the_sources(tmp_path: Path) -> None:
    source = """__global__ void free_kernel(int x) {}
template <int N>
__global__ void __launch_bounds__(kSide* (2 + N))
    bound_kernel(float* out) {}"""
    (tmp_path / "x.cu").write_text(source, encoding="utf-8")
    assert CHECK["bounds"](tmp_path) == {"free_kernel": False, "bound_kernel": True}
    assert CHECK["bounds"](CSRC / "cuda")["gram_kernel"]


@pytest.mark.parametrize(
    ("mangled", "name"),
    [
        ("_ZN11recsys_fast26_GLOBAL__N__1_3_x_cu_13b_59my_kernelEPf", "my_kernel"),
        ("_Z9my_kernelPf", "my_kernel"),
        ("_ZN11recsys_fast9my_kernelINS_9SomethingELi4EEEvT_", "my_kernelINS_9SomethingELi4EE"),
        ("my_kernel", "my_kernel"),
    ],
)
def test_names_are_read_by_their_lengths(mangled: str, name: str) -> None:
    """The unnamed namespace of a file ends in digits, which are no part of the length that follows."""
    assert CHECK["_short"](mangled) == name
