#!/usr/bin/env bash
# The whole chain offline, on synthetic speech and small models: `make demo` runs this. What speaks does so in a person's voice.
# A few steps show that training works; what speaks is the embedded model, trained before (docs/embedded.md).
set -euo pipefail
BIN=${BIN:-.venv/bin}
OUT=${OUT:-out/demo}
svae() { echo; echo "\$ svae $*"; "$BIN/svae" "$@"; }

svae prepare sample --out "$OUT/shards"
svae train-vae tiny/vae --data "$OUT/shards" --out "$OUT/vae" --set trainer.steps=60 --set trainer.validate_every=60
svae train-tts tiny/tts --data "$OUT/shards" --vae "$OUT/vae" --out "$OUT/tts" \
  --set trainer.steps=60 --set trainer.validate_every=60
svae synthesize --ref svae/assets/references/libri-6415.flac --out "$OUT/hello.wav" \
  --ref-text "The elusive Kate Ferris, the mysterious Kate Ferris." \
  --text "Good morning! The train to London leaves at 10:15, so you have twenty minutes for breakfast."
# One voice of the sample, two minutes: the table shows before and after.
sed -n "/\"flite-slt\"/s|\"audio\": \"|&$PWD/svae/assets/sample/|p" svae/assets/sample/metadata.jsonl > "$OUT/one-voice.jsonl"
svae adapt "$OUT/one-voice.jsonl" --out "$OUT/voice" --minutes 2 --held-out 4 --distillmos
# Judges that learned from people, as far as they are there: WHISPER, a folder of CTranslate2's; ECAPA, one of speechbrain's.
judges=(--distillmos --dnsmos speechmos)
[ -z "${WHISPER:-}" ] || judges+=(--asr "faster-whisper-int8:$WHISPER")
[ -z "${ECAPA:-}" ] || judges+=(--speaker "ecapa:$ECAPA")
svae evaluate --model embedded --data "$OUT/shards" --limit 8 --seeds 0 "${judges[@]}" --out "$OUT/report"

cat <<END

Done. What is there now:
  $OUT/hello.wav             the sentence in the voice of a reader of LibriSpeech, by the embedded model (small)
  $OUT/voice/hello.wav       the embedded model after two minutes of learning a synthetic voice (svae adapt)
  $OUT/report/report.html    open it: the table above, every utterance to listen to, its word errors
  $OUT/vae, $OUT/tts         two runs of 60 steps: checkpoints, curves, pictures; no voice yet
Next: train on real speech.
  svae prepare libritts --root data/LibriTTS
  svae train-vae libritts/vae-semantic64
  svae encode data/shards/libritts --vae runs/libritts-vae-semantic64 --out data/latents/libritts-semantic64
  svae train-tts libritts/tts-small-semantic64
END
