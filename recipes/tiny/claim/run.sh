#!/usr/bin/env bash
# The paper's claim in small, on SYNTHETIC speech: does semantic alignment make latents easier for a text-to-speech model to learn?
# Three VAEs that differ in width and alignment, and mel frames; on each the same TTS with the same budget, three seeds.
#   bash recipes/tiny/claim/run.sh                      # hours on two CPU cores; stopped with Ctrl-C it continues where it was
#   VAE_STEPS=200 TTS_STEPS=100 SEEDS="0" OUT=out/try bash recipes/tiny/claim/run.sh      # does it run? minutes
# Leaves OUT/compare/comparison.png, .md and .json. What came out is in docs/claim.md.
set -euo pipefail
cd "$(dirname "$0")/../../.."
BIN=${BIN:-.venv/bin} OUT=${OUT:-out/claim} SEEDS=${SEEDS:-"0 1 2"} UTTERANCES=${UTTERANCES:-2000}
VAE_STEPS=${VAE_STEPS:-4000} TTS_STEPS=${TTS_STEPS:-1500} EVERY=${EVERY:-500} PROCESSES=${PROCESSES:-2}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
train() { "$BIN/python" -m torch.distributed.run --nproc-per-node "$PROCESSES" -m svae "$@"; }

# Flite's four voices and some of espeak-ng's: few enough that the budget is spent on what is said.
[ -e "$OUT/corpus/metadata.jsonl" ] || "$BIN/python" recipes/tiny/corpus.py --out "$OUT/corpus" --utterances "$UTTERANCES" \
  --voices flite --wordnet 0.75 --seed 5
"$BIN/svae" prepare jsonl --root "$OUT/corpus/metadata.jsonl" --out "$OUT/shards" --validation 0.02 --shards 8
"$BIN/svae" prepare jsonl --root "$OUT/corpus/metadata.jsonl" --out "$OUT/shards-24k" --validation 0.02 --shards 8 --sample-rate 24000

"$BIN/svae" align "$OUT/shards" --out "$OUT/timings"
"$BIN/svae" align "$OUT/shards-24k" --out "$OUT/timings-24k"

speech=(--set "trainer.steps=$TTS_STEPS" --set "trainer.synthesize_every=$EVERY" --set trainer.synthesize_utterances=24)
for kind in vanilla16 vanilla64 semantic64; do
  case $kind in
    vanilla16)  options=(--set vae.latent_dim=16 --set loss.alignment=null) ;;
    vanilla64)  options=(--set vae.latent_dim=64 --set loss.alignment=null) ;;
    semantic64) options=(--set vae.latent_dim=64) ;;
  esac
  train train-vae tiny/vae-embedded --data "$OUT/shards" --out "$OUT/vae-$kind" --set "trainer.steps=$VAE_STEPS" "${options[@]}"
  "$BIN/svae" encode "$OUT/shards" --vae "$OUT/vae-$kind" --out "$OUT/latents-$kind"
  "$BIN/svae" evaluate --reconstruction --model "$OUT/vae-$kind" --data "$OUT/shards" --out "$OUT/reconstruction-$kind"
  for seed in $SEEDS; do
    train train-tts tiny/tts-embedded --data "$OUT/latents-$kind" --out "$OUT/$kind-seed$seed" --set "trainer.seed=$seed" \
      --set "data.waveform_root=$OUT/shards" --set "data.timings=$OUT/timings" "${speech[@]}"
  done
done
for seed in $SEEDS; do  # as many seconds a batch: mel frames come 93.75 a second, latents 40
  train train-tts tiny/tts-embedded --data "$OUT/shards-24k" --out "$OUT/mel-seed$seed" --set "trainer.seed=$seed" \
    --set representation=mel --set vocoder=griffin-lim --set batch_frames=3750 --set "data.timings=$OUT/timings-24k" "${speech[@]}"
done
"$BIN/svae" compare "$OUT"/{vanilla16,vanilla64,semantic64,mel}-seed* --out "$OUT/compare"
