"""Speech with less time than its phones need at least is warned of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_tts import TEXT, changed

from svae.synthesis.batch import synthesize_batch
from svae.synthesis.command import SynthesizeOptions, synthesize_file
from svae.synthesis.haste import LEAST_MS, MARGIN, least_seconds
from svae.text.phonemes import PHONES


def test_the_least_time_of_a_text_is_that_of_its_phones() -> None:
    assert set(LEAST_MS) == set(PHONES)
    assert least_seconds("bay") == pytest.approx(MARGIN * 0.16)  # B EY
    assert least_seconds("{B EY1}, bay... bay!") == pytest.approx(3 * MARGIN * 0.16)
    assert least_seconds("...") == 0.0
    assert least_seconds("你好") == least_seconds("안녕") == pytest.approx(MARGIN * 0.2)
    assert least_seconds("zyxqvw") > 0.1  # a word no dictionary has


def warnings(options: SynthesizeOptions) -> list[str]:
    return json.loads(synthesize_file(options).with_suffix(".json").read_text())["warnings"]


def test_a_duration_or_speed_too_short_is_warned_of_and_what_is_advised_fits(
    options: SynthesizeOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    roomy = changed(options, ref_text="one")
    assert warnings(roomy) == []
    for changes, option in (
        ({"duration_seconds": 0.3}, "--duration"),
        ({"speed": 12.0}, "--speed"),
    ):
        found = warnings(changed(roomy, **changes))
        assert len(found) == 1 and "words may be lost" in found[0]
        assert "words may be lost" in " ".join(capsys.readouterr().out.split())
        advised = float(found[0].split(option)[1].split()[0])
        name = next(iter(changes))
        assert warnings(changed(roomy, **{name: advised})) == []


def test_rows_of_a_list_are_warned_of_too(
    options: SynthesizeOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.jsonl").write_text(json.dumps({"text": TEXT, "out": "a.wav"}) + "\n")
    hurried = changed(options, duration_seconds=0.3, ref_text="one")
    synthesize_batch(tmp_path / "list.jsonl", hurried, tmp_path / "out")
    assert "Row 1: 1 of 1 chunk(s)" in " ".join(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "out" / "a.json").read_text())["warnings"]
