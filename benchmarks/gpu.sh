#!/usr/bin/env bash
# Every GPU table of docs/benchmarks.md in one call of at most nine minutes, the most wanted first; what is done is kept.
#
#   bash benchmarks/gpu.sh                       # benchmarks/results/gpu; needs a CUDA device and svae's own packages
#   OUT=/tmp/x MINUTES=4 bash benchmarks/gpu.sh
#   DEVICE=cpu TINY=1 bash benchmarks/gpu.sh     # does it run? On any machine, in a minute
#
# WHEELS is a folder of wheels (`make wheelhouse`) for a machine without a network, installed beside what it has.
# Each part writes one JSON with date, hardware and versions; summary.txt says how each ended: 0, or 124 where time was up.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-benchmarks/results/gpu}
MINUTES=${MINUTES:-9}
DEVICE=${DEVICE:-cuda}
SMALL=${TINY:+--tiny}
mkdir -p "$OUT"
if [ -n "${WHEELS:-}" ]; then
  $PYTHON -m pip install --quiet --no-index --no-deps "$WHEELS"/*.whl || exit 1
fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
end=$((SECONDS + 60 * MINUTES - 10))

part() { # part NAME AT-MOST-SECONDS SCRIPT OPTIONS…
  local name=$1 limit=$2
  shift 2
  local left=$((end - SECONDS))
  [ "$left" -gt 15 ] || { echo "$name: no time left" | tee -a "$OUT/summary.txt"; return; }
  echo "== $name: $*"
  local began=$SECONDS
  timeout --signal=INT --kill-after=10 $((left < limit ? left : limit)) \
    $PYTHON "$@" --device "$DEVICE" $SMALL --out "$OUT/$name.json" 2>&1 | tee "$OUT/$name.log" | tail -40
  echo "$name: ended with ${PIPESTATUS[0]} after $((SECONDS - began)) s" | tee -a "$OUT/summary.txt"
}

: > "$OUT/summary.txt"
part numerics 60 benchmarks/vae_numerics.py
part tts 170 benchmarks/tts_gpu.py
part vae_train 150 benchmarks/vae_train.py --arithmetic fp32 bf16 --steps 30
part evaluate 110 benchmarks/evaluate.py --clips 200
part vae_compile 90 benchmarks/vae_train.py --arithmetic "bf16 + compile" --steps 20
cat "$OUT/summary.txt"
