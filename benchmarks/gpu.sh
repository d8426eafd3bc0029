#!/usr/bin/env bash
# Everything that needs a GPU, on a machine that has one: builds from source, tests, sanitizers, figures.
#
#   benchmarks/gpu.sh [--skip STAGE=REASON]... [--only STAGE]... [--turns N] [--data NAME] [--sequences NAME]
#
# Stages: build tests memcheck racecheck als bpr topk linear sequence. A stage that fails does not stop the others. The last lines
# say of each stage whether it passed, failed, or was skipped and why; the exit status is 0 only if none failed, and 3 where
# there is no GPU. Logs are in build/gpu/ (RECSYS_FAST_GPU_LOGS), figures in benchmarks/results/gpu_*.json with device, driver and commit (from git,
# or RECSYS_FAST_COMMIT where the sources are a copy without history).
# Needs nvcc, CMake, ninja, and a python3 with pybind11, scikit-build-core, NumPy, SciPy, numba, CuPy and pytest.
set -uo pipefail
cd "$(dirname "$0")/.."

turns=5 data=ml20m-shaped sequences=beauty-shaped only=() skipped=() failed=0
declare -A reasons=()
while [ $# -gt 0 ]; do
  case "$1" in
    --skip)
      [[ ${2:-} == *=?* ]] || { echo "--skip: got '${2:-}', expected STAGE=REASON" >&2; exit 2; }
      reasons[${2%%=*}]=${2#*=}; shift ;;
    --only) only+=("${2:?}"); shift ;;
    --turns) turns=${2:?}; shift ;;
    --data) data=${2:?}; shift ;;
    --sequences) sequences=${2:?}; shift ;;
    *) echo "got '$1', expected --skip, --only, --turns, --data or --sequences" >&2; exit 2 ;;
  esac
  shift
done

if ! gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>&1); then
  echo "no GPU: nvidia-smi says: ${gpu:-nothing}" >&2
  exit 3
fi
echo "GPU: $gpu"

logs=${RECSYS_FAST_GPU_LOGS:-$PWD/build/gpu} site=$PWD/build/gpu/site
mkdir -p "$logs"
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
summary=()

# stage NAME SECONDS COMMAND...: runs it unless it is skipped; `needs` may have given a reason beforehand.
stage() {
  local name=$1 seconds=$2 status=0 start=$SECONDS
  shift 2
  if [ ${#only[@]} -gt 0 ] && [[ " ${only[*]} " != *" $name "* ]]; then reasons[$name]="not among --only"; fi
  if [ -n "${reasons[$name]:-}" ]; then
    summary+=("$(printf '%-10s skipped: %s' "$name" "${reasons[$name]}")")
    return
  fi
  echo "== $name"
  timeout "$seconds" "$@" 2>&1 | tee "$logs/$name.log" || status=$?
  if [ "$status" -eq 0 ]; then
    summary+=("$(printf '%-10s passed, %d s' "$name" $((SECONDS - start)))")
  else
    failed=1
    summary+=("$(printf '%-10s FAILED with %d, %d s: %s' "$name" "$status" $((SECONDS - start)) "$logs/$name.log")")
  fi
}

# needs STAGE COMMAND REASON: the stage is skipped for that reason where there is no such command.
needs() { command -v "$2" > /dev/null || reasons[$1]=${reasons[$1]:-$3}; }

# Only for this GPU and this processor: minutes less. The log is read for spills and registers.
build() {
  local arch
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
  python3 -m pip install . --no-deps --no-build-isolation --upgrade --target "$site" --verbose \
    -C cmake.define.RECSYS_FAST_BUILD_CUDA=ON -C cmake.define.CMAKE_CUDA_ARCHITECTURES="$arch" \
    -C cmake.define.RECSYS_FAST_ISA_LEVELS=v3 && python3 -P -c "import recsys_fast; recsys_fast.show_config()"
}

# The operations on hardware: without a device every test would be skipped, which is no success. CuPy's pool would hide the
# ends of arrays from the sanitizer, so it is off. -P: the installed package, not the sources.
suite() {
  python3 -P -c "import sys, cupy, pytest
from recsys_fast import backend
backend.resolve_device('cuda')
cupy.cuda.set_allocator(None)
sys.exit(pytest.main(sys.argv[1:]))" -m gpu -n 0 -p no:cacheprovider -o timeout=0 tests/ops "$@"
}

# Sanitized kernels are some hundred times slower: cases that are too much for the emulated grid are left out here as well.
sanitized() {
  export RECSYS_FAST_GPU_MOST_STEPS=4e8
  export -f suite
  compute-sanitizer --tool "$1" --error-exitcode 9 --target-processes all --print-limit 20 bash -c suite
}

bench() { python3 -m "benchmarks.gpu.bench_$1" --turns "$turns" --save "gpu_$1" "${@:2}"; }

export -f build suite sanitized bench
export site turns
needs build nvcc "nvcc is not on PATH"
needs memcheck compute-sanitizer "compute-sanitizer is not on PATH"
needs racecheck compute-sanitizer "compute-sanitizer is not on PATH"

stage build 1800 bash -c build
stage tests 1800 bash -c "suite"
stage memcheck 3600 bash -c "sanitized memcheck"
stage racecheck 3600 bash -c "sanitized racecheck"
stage als 1200 bash -c "bench als --data $data"
stage bpr 1200 bash -c "bench bpr --data $data"
stage topk 1200 bash -c "bench topk --data $data"
stage linear 1200 bash -c "bench linear --data $data"
stage sequence 1800 bash -c "bench sequence --data $sequences"

printf '%s\n' "" "${summary[@]}"
exit "$failed"
