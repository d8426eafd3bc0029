"""Draw results/*.json as one chart: how many times faster than each peer.

python -m benchmarks.plot als_gowalla_cg als_ml20m_cholesky topk_gowalla evaluate_gowalla --out docs/speed.png
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.harness import RESULTS

OURS = "recsys_fast"


def ratios(name: str) -> list[tuple[str, float]]:
    """Return (work and peer, ratio of medians) of every peer's figure in ``results/<name>.json``."""
    rows = []
    work = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["work"]
    for title, figures in work.items():
        ours = statistics.median(figures[OURS]["seconds"])
        for peer, figure in figures.items():
            if not peer.startswith(OURS):
                rows.append((f"{title}: {peer}", statistics.median(figure["seconds"]) / ours))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="files of results/, without .json")
    parser.add_argument("--out", type=Path, default=RESULTS / "speed.png")
    options = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for name in options.names for row in ratios(name)]
    figure, axes = pyplot.subplots(figsize=(9, 0.8 + 0.26 * len(rows)), layout="constrained")
    labels, values = [row[0] for row in rows][::-1], [row[1] for row in rows][::-1]
    bars = axes.barh(labels, values, color="#33658a")
    axes.bar_label(bars, fmt="%.1f x", padding=3, fontsize=8)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("peer's time / recsys_fast's time (same run, alternating turns, median)")
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.out, dpi=130)
    print(options.out)


if __name__ == "__main__":
    main()
