#!/usr/bin/env bash
# The whole chain on the embedded sample (synthetic speech, small models): `make demo` runs this.
# It shows that everything works together. Minutes of training on a CPU do not make a voice.
set -euo pipefail
BIN=${BIN:-.venv/bin}
OUT=${OUT:-out/demo}
svae() { echo; echo "\$ svae $*"; "$BIN/svae" "$@"; }

svae prepare sample --out "$OUT/shards"
svae train-vae tiny/vae --data "$OUT/shards" --out "$OUT/vae"
svae train-tts tiny/tts --data "$OUT/shards" --vae "$OUT/vae" --out "$OUT/tts"
svae synthesize --model "$OUT/tts" --ref svae/assets/references/flite-slt.wav \
  --text "The quick brown fox jumps over the lazy dog." --out "$OUT/hello.wav"
svae evaluate --model "$OUT/tts" --data "$OUT/shards" --limit 8 --seeds 0 --out "$OUT/report"

cat <<END

Done. What is there now:
  $OUT/hello.wav             the sentence, in the reference's voice as far as minutes of training carry
  $OUT/report/report.html    open it: the table above, every utterance to listen to, its word errors
  $OUT/vae/samples/          reconstructions and mel pictures during training
Next: train on real speech.
  svae prepare libritts --root data/LibriTTS
  svae train-vae libritts/vae-semantic64
  svae train-tts libritts/tts-small-semantic64 --vae runs/libritts-vae-semantic64
END
