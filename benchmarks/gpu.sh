#!/usr/bin/env bash
# Every GPU table of docs/benchmarks.md in one call of at most nine minutes, the most wanted first; what is done is kept.
#
#   bash benchmarks/gpu.sh                       # benchmarks/results/gpu; needs a CUDA device and svae's own packages
#   OUT=/tmp/x MINUTES=4 bash benchmarks/gpu.sh
#   PARTS="tts vae_train" bash benchmarks/gpu.sh # only these
#   DEVICE=cpu TINY=1 bash benchmarks/gpu.sh     # does it run? On any machine, in a minute
#
# WHEELS is a folder of wheels (`make wheelhouse`) for a machine without a network, installed beside what it has.
# Each part writes one JSON with date, hardware and versions, anew after every row: whatever ends a part or all of this (a
# limit, Ctrl-C, a kill), the rows before are there, with "complete": false. summary.txt says how each part ended.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-benchmarks/results/gpu}
MINUTES=${MINUTES:-9}
DEVICE=${DEVICE:-cuda}
PARTS=${PARTS:-numerics tts vae_train evaluate vae_compile}
SMALL=${TINY:+--tiny}
mkdir -p "$OUT"
if [ -n "${WHEELS:-}" ]; then
  $PYTHON -m pip install --quiet --no-index --no-deps "$WHEELS"/*.whl || exit 1
fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
end=$((SECONDS + 60 * MINUTES - 10))
running=

kept() { # kept FILE: what of a part's result is there
  $PYTHON - "$1" <<'PY'
import json, pathlib, sys
path = pathlib.Path(sys.argv[1])
if not path.is_file():
    print("nothing kept")
else:
    found = json.loads(path.read_text())
    rows = sum(len(table) for name, table in found.items() if isinstance(table, list) or name == "stages")
    print(f"{rows} rows, {'complete' if found['complete'] else 'partial'}")
PY
}

part() { # part NAME AT-MOST-SECONDS SCRIPT OPTIONS…
  local name=$1 limit=$2
  shift 2
  [[ " $PARTS " == *" $name "* ]] || return
  local left=$((end - SECONDS))
  [ "$left" -gt 15 ] || { echo "$name: no time left" | tee -a "$OUT/summary.txt"; return; }
  # Of an earlier call; it must not be taken for this one's.
  if [ -e "$OUT/$name.json" ]; then mv "$OUT/$name.json" "$OUT/$name.earlier.json"; fi
  echo "== $name: $*"
  local began=$SECONDS
  # In the background, so that a signal to this script is heard at once.
  timeout --signal=TERM --kill-after=10 $((left < limit ? left : limit)) \
    $PYTHON "$@" --device "$DEVICE" $SMALL --out "$OUT/$name.json" > "$OUT/$name.log" 2>&1 &
  running=$!
  wait "$running"
  local code=$?
  running=
  tail -40 "$OUT/$name.log"
  echo "$name: ended with $code after $((SECONDS - began)) s: $(kept "$OUT/$name.json")" | tee -a "$OUT/summary.txt"
}

interrupted() {
  if [ -n "$running" ]; then
    kill -TERM "$running" 2> /dev/null
    wait "$running"
  fi
  echo "interrupted; what was measured is in $OUT" | tee -a "$OUT/summary.txt"
  exit 130
}
trap interrupted INT TERM

: > "$OUT/summary.txt"
part numerics 60 benchmarks/vae_numerics.py
part tts 170 benchmarks/tts_gpu.py
part vae_train 150 benchmarks/vae_train.py --arithmetic fp32 bf16 --steps 30
part evaluate 110 benchmarks/evaluate.py --clips 200
part vae_compile 90 benchmarks/vae_train.py --arithmetic "bf16 + compile" --steps 20
cat "$OUT/summary.txt"
