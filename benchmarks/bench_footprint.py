"""Import time of the package, and peak memory of an ALS fit against factors + matrix + transpose.

python -m benchmarks.bench_footprint --data ml20m-shaped --factors 64 256
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import harness

FIT = """
import sys
import numpy as np
import recsys_fast as rf
from benchmarks import data
matrix = rf.ops.as_csr(data.load(sys.argv[1])[0])._replace(values=None)  # every entry counts 1
import gc; gc.collect()
rf.ALS(n_factors=8, n_epochs=1, solver="cg").fit(matrix)  # code, pool and small buffers are loaded before the count
base = int(open("/proc/self/statm").read().split()[1]) * 4096
open("/proc/self/clear_refs", "w").write("5")  # resets the peak
rf.ALS(n_factors=int(sys.argv[2]), n_epochs=2, solver=sys.argv[3]).fit(matrix)
peak = [int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmHWM")][0]
factors = 4 * int(sys.argv[2]) * sum(matrix.shape)
transpose = 8 * (matrix.n_cols + 1) + 4 * matrix.nnz * (1 if matrix.values is None else 2)
print((peak - base) / 2**20, factors / 2**20, transpose / 2**20)
"""


def import_seconds(turns: int = 9) -> float:
    """Return the median time that ``import recsys_fast`` takes in a fresh interpreter, less an empty one's."""
    times: dict[str, list[float]] = {"import recsys_fast": [], "pass": []}
    for _ in range(turns):
        for code, seconds in times.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            seconds.append(time.perf_counter() - start)
    return statistics.median(times["import recsys_fast"]) - statistics.median(times["pass"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="gowalla")
    parser.add_argument("--factors", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--solvers", nargs="+", default=["cg", "cholesky"])
    parser.add_argument("--save", metavar="NAME", help="write results/NAME.json")
    options = parser.parse_args()
    seconds = import_seconds()
    print(f"import recsys_fast {seconds:.3f} s")
    work = {"import": {"recsys_fast": harness.Figure("recsys_fast", [seconds])}}
    for d in options.factors:
        for solver in options.solvers:
            command = [sys.executable, "-c", FIT, options.data, str(d), solver]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            used, factors, transpose = (float(x) for x in out.split()[-3:])
            extra = used - factors - transpose
            title = f"memory of ALS.fit, {Path(options.data).stem}, {d} factors, {solver}"
            print(f"{title}: {used:.0f} MB above the input; factors {factors:.0f}, transpose {transpose:.0f}, "
                  f"everything else {extra:.0f}")  # fmt: skip
            quality = {"MB": used, "factors MB": factors, "transpose MB": transpose, "other MB": extra}
            work[title] = {"recsys_fast": harness.Figure("recsys_fast", [0.0], quality)}
    if options.save:
        print(harness.save(options.save, work))


if __name__ == "__main__":
    main()
