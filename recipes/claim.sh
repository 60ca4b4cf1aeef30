#!/usr/bin/env bash
# The paper's claim in small, on SYNTHETIC speech: does semantic alignment make latents easier for a text-to-speech model to learn?
# Three VAEs that differ in width and alignment, and mel frames; on each the same TTS with the same budget, three seeds.
#   bash recipes/claim.sh        # under two hours on two CPU cores; stopped with Ctrl-C it continues where it was
#   KINDS="vanilla64 semantic64" TTS_STEPS=1800 bash recipes/claim.sh    # goes on with two of the four
#   VAE_STEPS=20 TTS_STEPS=20 EVERY=20 UTTERANCES=200 SEEDS="0 1" OUT=out/try bash recipes/claim.sh   # does it run? minutes
# Needs: apt-get install flite espeak-ng wordnet-base
# JOBS of them run at a time, one process each, and write into OUT/logs. Leaves OUT/compare/comparison.png, .md and .json.
# What came out is in docs/claim.md.
set -euo pipefail
trap "exit 130" INT TERM  # a training that is stopped ends with status 0; nothing may follow it
cd "$(dirname "$0")/.."
export BIN=${BIN:-.venv/bin} OUT=${OUT:-out/claim} OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export VAE_STEPS=${VAE_STEPS:-2000} TTS_STEPS=${TTS_STEPS:-900} EVERY=${EVERY:-300}
SEEDS=${SEEDS:-"0 1 2"} UTTERANCES=${UTTERANCES:-800} JOBS=${JOBS:-2} KINDS=${KINDS:-"mel vanilla16 vanilla64 semantic64"}

vae() { # KIND: trains the VAE, stores its latents, and measures what it loses by itself
  case $1 in
    vanilla16)  options=(--set vae.latent_dim=16 --set loss.alignment=null) ;;
    vanilla64)  options=(--set loss.alignment=null) ;;
    semantic64) options=() ;;
  esac
  "$BIN/svae" train-vae tiny/claim/vae --data "$OUT/shards" --out "$OUT/vae-$1" "${options[@]}" \
    --set "trainer.steps=$VAE_STEPS" --set "loss.adversarial_start_step=$VAE_STEPS"
  "$BIN/svae" encode "$OUT/shards" --vae "$OUT/vae-$1" --out "$OUT/latents-$1"
  "$BIN/svae" evaluate --reconstruction --model "$OUT/vae-$1" --data "$OUT/shards" --out "$OUT/reconstruction-$1"
}

tts() { # KIND SEED
  if [ "$1" = mel ]; then  # as many seconds a batch: mel frames come 93.75 a second, latents 40
    options=(--data "$OUT/shards-24k" --set representation=mel --set vocoder=griffin-lim --set batch_frames=1875
             --set "data.timings=$OUT/timings-24k")
  else
    options=(--data "$OUT/latents-$1" --set "data.waveform_root=$OUT/shards" --set "data.timings=$OUT/timings")
  fi
  "$BIN/svae" train-tts tiny/claim/tts --out "$OUT/$1-seed$2" --set "trainer.seed=$2" --set "trainer.steps=$TTS_STEPS" \
    --set "trainer.synthesize_every=$EVERY" --set trainer.synthesize_utterances=16 "${options[@]}"
}

job() {
  local name="$*" log
  log="$OUT/logs/${name// /-}.log"
  echo "$(date +%T) $name, see $log"
  bash -c 'set -euo pipefail; trap "exit 130" INT TERM; "$@"' - "$@" > "$log" 2>&1 || { echo "failed: $name"; tail -5 "$log"; return 255; }
}
export -f vae tts job
at_once() { xargs -P "$JOBS" -I{} bash -c "job {}"; }

mkdir -p "$OUT/logs"
# Four voices, so that the budget is spent on what is said. Every sentence occurs once.
[ -e "$OUT/corpus/metadata.jsonl" ] || "$BIN/python" recipes/embedded/corpus.py --out "$OUT/corpus" --utterances "$UTTERANCES" \
  --voices flite --wordnet 0.75 --seed 5
prepare=("$BIN/svae" prepare jsonl --root "$OUT/corpus/metadata.jsonl" --validation 0.04 --shards 8)
"${prepare[@]}" --out "$OUT/shards"
"${prepare[@]}" --out "$OUT/shards-24k" --sample-rate 24000
"$BIN/svae" align "$OUT/shards" --out "$OUT/timings"
"$BIN/svae" align "$OUT/shards-24k" --out "$OUT/timings-24k"

without_vae() { for seed in $SEEDS; do echo "tts mel $seed"; done; }
first() { for kind in $KINDS; do if [ "$kind" = mel ]; then without_vae; else echo "vae $kind"; fi; done; }
second() { for seed in $SEEDS; do for kind in $KINDS; do [ "$kind" = mel ] || echo "tts $kind $seed"; done; done; }
first | at_once
second | at_once
"$BIN/svae" compare $(for kind in $KINDS; do echo "$OUT/$kind"-seed*; done) --out "$OUT/compare"
