#!/usr/bin/env bash
# The embedded voice, trained on in one call of at most nine minutes on a GPU: its decoder, its transformer, its student.
#
#   python recipes/embedded/gpu_pack.py --root ../shared/data/real-speech      # gpu-carry, 34 MB, on a machine with the data
#   bash recipes/embedded/gpu.sh                                               # results in out/embedded-gpu
#   DEVICE=cpu TINY=1 bash recipes/embedded/gpu.sh                             # does it run? The sample, some steps, three minutes
#
# The encoder stays as it is embedded, so decoder, transformer and student fit each other; out/embedded-gpu/tts is what to judge, and
# to copy to svae/assets/tts where it is better: svae synthesize --model out/embedded-gpu/tts …
# WHEELS is a folder of wheels for a machine without a network, MINUTES the limit. What is done is kept when time is up: every
# stage ends as by Ctrl-C, with a checkpoint. summary.txt says how each ended.
set -uo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
CARRY=${CARRY:-gpu-carry}
OUT=${OUT:-out/embedded-gpu}
WORK=${WORK:-/tmp/svae-embedded-gpu}
MINUTES=${MINUTES:-9}
DEVICE=${DEVICE:-cuda}
EMBEDDED=svae/assets/tts
mkdir -p "$OUT" "$WORK"
: > "$OUT/summary.txt"
if [ -n "${WHEELS:-}" ]; then
  $PYTHON -m pip install --quiet --no-index --no-deps "$WHEELS"/*.whl || exit 1
fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
end=$((SECONDS + 60 * MINUTES - 20))

stage() { # stage NAME PERCENT-OF-WHAT-IS-LEFT COMMAND…: ended by SIGINT when its time is over, with code 124
  local name=$1 share=$2
  shift 2
  local left=$(((end - SECONDS) * share / 100))
  [ "$left" -gt 10 ] || { echo "$name: no time left" | tee -a "$OUT/summary.txt"; return 1; }
  local began=$SECONDS
  timeout --signal=INT --kill-after=30 "$left" "$@" > "$OUT/$name.log" 2>&1
  local code=$?
  echo "$name: ended with $code after $((SECONDS - began)) s" | tee -a "$OUT/summary.txt"
  [ $code = 0 ] || [ $code = 124 ] || tail -20 "$OUT/$name.log"
  return $code
}

keep() { # keep TTS-RUN: what is done so far, as embed.py stores it: float16, each file under 16 MB
  local vae=()
  ls "$WORK"/vae/checkpoints/step-* > /dev/null 2>&1 && vae=(--vae "$WORK/vae")
  $PYTHON recipes/embedded/embed.py --tts "$1" "${vae[@]}" --out "$OUT/tts"
  cp "$1/metrics.jsonl" "$OUT/$(basename "$1")-metrics.jsonl"
}

# ------------------------------------------------------------------------------------------ data
people=$WORK/people
if [ -n "${TINY:-}" ]; then
  mkdir -p "$people"
  corpus=svae/assets/sample/metadata.jsonl
  cp $corpus "$people/vae.jsonl"
  cp $corpus "$people/tts.jsonl"
  audio=$PWD/svae/assets/sample
  sed -i "s#\"audio\": \"#\"audio\": \"$audio/#" "$people"/*.jsonl
else
  stage people 40 $PYTHON recipes/embedded/people.py --root "$CARRY/real-speech" --out "$people" || exit 1
fi
for use in vae tts; do
  stage prepare-$use 40 $PYTHON -m svae prepare jsonl --root "$people/$use.jsonl" --out "$WORK/$use-shards" \
    --sample-rate 16000 --validation 0.02 --shards 16 || exit 1
done
stage align 60 $PYTHON -m svae align "$WORK/tts-shards" --out "$WORK/timings" || exit 1
stage encode 50 $PYTHON -m svae encode "$WORK/tts-shards" --vae $EMBEDDED/vae --out "$WORK/latents" --device "$DEVICE" || exit 1

# ------------------------------------------------------------------------------------------ training
if [ -n "${TINY:-}" ]; then
  vae_size=(--set trainer.steps=3 --set batch_size=2)
  tts_size=(--set trainer.steps=3 --set batch_frames=800)
  student_size=(--set trainer.steps=2 --set batch_frames=800)
else
  vae_size=(--set batch_size=64 --set trainer.steps=100000)
  tts_size=(--set batch_frames=16000 --set trainer.steps=100000)
  student_size=(--set batch_frames=8000 --set trainer.steps=400)
fi
stage vae 30 $PYTHON -m svae train-vae tiny/vae-embedded --init $EMBEDDED/vae --data "$WORK/vae-shards" --out "$WORK/vae" \
  --device "$DEVICE" --set freeze_encoder=true --set loss.alignment=null "${vae_size[@]}"
tts=($PYTHON -m svae train-tts tiny/tts-embedded --init embedded --data "$WORK/latents" --out "$WORK/tts" --device "$DEVICE"
  --set data.timings="$WORK/timings" "${tts_size[@]}")
# As on the CPU: a high rate, and a lower one for the end, by resuming.
stage tts 50 "${tts[@]}"
[ -n "${TINY:-}" ] || stage tts-slower 40 "${tts[@]}" --set optimizer.learning_rate=1e-4
keep "$WORK/tts"
stage student 90 $PYTHON -m svae distill "$WORK/tts" --data "$WORK/latents" --out "$WORK/student" --device "$DEVICE" \
  --set data.timings="$WORK/timings" --set flow.weighting=variance --set distill.guidance=1 --set distill.prompt_guidance=1.2 \
  "${student_size[@]}"
keep "$WORK/student"
cat "$OUT/summary.txt"
