"""Speed on a GPU beside other libraries there; ``benchmarks/gpu.sh`` runs everything on a machine that has one."""
