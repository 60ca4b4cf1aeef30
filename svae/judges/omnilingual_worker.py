"""Meta's omnilingual-asr, run by an interpreter of its own: it and svae need different versions of torch.

`svae.judges.omnilingual` starts this file with the interpreter of that environment; nothing of svae is imported here. The first line on
the standard output says what was loaded. Then every line on the standard input, a JSON object {paths, batch_size}, is
answered by one line: {texts}, or {error}. What the packages print goes to the standard error. The end of the input ends it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import Any, TextIO


def _answers_only() -> TextIO:
    """Return the standard output, which nobody but this file writes to from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _reason(error: BaseException) -> str:
    """Return an error with what it was raised from: `Download failed.` alone says nothing of the network."""
    said = f"{type(error).__name__}: {error}"
    return f"{said} (from {_reason(error.__cause__)})" if error.__cause__ is not None else said


def _code(language: str, supported: list[str]) -> str:
    """Return the package's name (`deu_Latn`) of a language of ISO 639-3 (`deu`).

    Of several scripts the last one counts, of Chinese the simplified one. Source: k2-fsa/OmniVoice `omnivoice/eval/wer/fleurs.py`.
    """
    codes = {code.partition("_")[0]: code for code in supported if code != "cmn_Hant"}
    if language not in codes:
        raise LookupError(
            f"the package knows no language {language}; it has {len(codes)}, by ISO 639-3"
        )
    return codes[language]


def _weights(card: str) -> dict[str, str]:
    """Return where the weights of a card come from, and the sum of a file of one's own, of which the name says nothing."""
    from fairseq2.assets import get_asset_store

    place = get_asset_store().retrieve_card(card).field("checkpoint").as_(str)
    if not place.startswith("file://"):
        return {"checkpoint": place}
    digest = hashlib.sha256()
    with open(place.removeprefix("file://"), "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return {"checkpoint": place, "sha256": digest.hexdigest()}


def main(card: str, device: str, language: str) -> None:
    """Load a model, then transcribe what is asked for in one language."""
    answers = _answers_only()
    # Python looks for modules beside this file first, and svae's whisper.py is not the package of that name.
    beside = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [place for place in sys.path if os.path.abspath(place) != beside]
    try:
        from importlib import metadata

        from omnilingual_asr.models.inference.pipeline import ASRInferencePipeline
        from omnilingual_asr.models.wav2vec2_llama.lang_ids import supported_langs

        code = _code(language, supported_langs)
        pipeline = ASRInferencePipeline(model_card=card, device=device)
        weights = _weights(card)
    # Its packages raise many classes; whatever it is, the one who waits has to hear of it.
    except Exception as error:
        _say(answers, {"error": _reason(error)})
        return
    packages = ("omnilingual-asr", "fairseq2", "torch")
    versions = {name: metadata.version(name) for name in packages}
    dtype = str(pipeline.dtype).removeprefix("torch.")
    _say(answers, {"dtype": dtype, "language": code, "versions": versions, "weights": weights})
    for line in sys.stdin:
        asked = json.loads(line)
        paths = asked["paths"]
        try:
            texts = pipeline.transcribe(
                paths, lang=[code] * len(paths), batch_size=asked["batch_size"]
            )
            _say(answers, {"texts": texts})
        except Exception as error:
            _say(answers, {"error": _reason(error)})


if __name__ == "__main__":
    main(*sys.argv[1:])
