"""The TTS model as Python users get it: durations, loudness, limits, determinism, checkpoint checks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_tts import PROMPT_TEXT, RATE, TEXT, VOCABULARY, speech, write_tts
from torch import Tensor

from svae.config import VAEConfig
from svae.errors import CheckpointError, ConfigError, DataError
from svae.synthesis.durations import MAX_TOTAL_SECONDS, end_sentence, predict_frames
from svae.synthesis.load import load_tts
from svae.synthesis.model import TTS
from svae.synthesis.types import Sampling
from svae.text.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def tts(folder: Path) -> TTS:
    return load_tts(folder)


# ------------------------------------------------------------------------------------------- duration and text


def test_duration_follows_f5s_byte_ratio() -> None:
    prompt, text = "a" * 40, "b" * 60
    assert predict_frames(100, prompt, text) == 100 + 150
    assert predict_frames(100, prompt, text, speed=2.0) == 100 + 75
    assert predict_frames(100, prompt, "語" * 20) == 100 + 150  # three bytes a character


def test_short_texts_are_slow_and_no_text_is_longer_than_its_frames() -> None:
    assert predict_frames(100, "a" * 40, "b" * 9) == 100 + int(100 / 40 * 9 / 0.3)
    assert predict_frames(100, "a" * 40, "b" * 9, speed=0.1) == 100 + int(100 / 40 * 9 / 0.1)
    assert predict_frames(10, "a" * 100, "b" * 50) == 151
    assert predict_frames(100, "a" * 99999, "b") == 100001
    assert predict_frames(500, "a" * 400, "b" * 10, speed=1e9) == 501


def test_prompt_text_ends_a_sentence() -> None:
    assert end_sentence("one two", VOCABULARY) == "one two. "
    assert end_sentence("one two.", VOCABULARY) == "one two. "
    assert end_sentence("one two?'", VOCABULARY) == "one two?' "
    assert end_sentence("one,", VOCABULARY) == "one,. "
    assert end_sentence("ONE TWO", Vocabulary.from_characters("ONETW")) == "ONE TWO "


# ------------------------------------------------------------------------------------------- generation


def test_same_arguments_give_the_same_samples_and_the_seed_changes_them(
    tts: TTS, folder: Path
) -> None:
    first = tts.synthesize(TEXT, speech(), PROMPT_TEXT, seed=3, num_steps=3)
    again = load_tts(folder).synthesize(TEXT, speech(), PROMPT_TEXT, seed=3, num_steps=3)
    other = tts.synthesize(TEXT, speech(), PROMPT_TEXT, seed=4, num_steps=3)
    assert (
        first.shape[:2] == (1, 1) and first.dtype == torch.float32 and bool(first.isfinite().all())
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_prompts_of_all_shapes_are_the_same_prompt(tts: TTS) -> None:
    prompt = speech()
    outputs = [
        tts.synthesize(TEXT, p, PROMPT_TEXT, num_steps=1) for p in (prompt, prompt[0], prompt[None])
    ]
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])


def test_durations_are_those_of_the_rule_or_those_asked_for(tts: TTS) -> None:
    result = tts.generate(TEXT, speech(), PROMPT_TEXT, num_steps=1)
    frames = predict_frames(40, PROMPT_TEXT + ". ", TEXT) - 40
    assert result.waveform.shape[-1] == frames * 400
    assert result.generated_seconds == frames / 40 and result.prompt_seconds == 1.0
    asked = tts.generate(TEXT, speech(), PROMPT_TEXT, num_steps=1, duration_seconds=2.5)
    assert asked.generated_seconds == 2.5
    assert result.timings.keys() == {"encode", "sample", "decode"}
    factors = result.real_time_factors
    assert factors["total"] == pytest.approx(
        sum(result.timings.values()) / result.generated_seconds
    )


def test_loudness_of_a_quiet_prompt_is_that_of_the_result(tts: TTS) -> None:
    reference = tts.synthesize(TEXT, speech(level=0.1), PROMPT_TEXT, num_steps=2)
    quiet = tts.synthesize(TEXT, speech(level=0.01), PROMPT_TEXT, num_steps=2)
    torch.testing.assert_close(quiet, reference / 10, atol=1e-4, rtol=1e-3)


def test_guidance_steps_speed_and_text_matter(tts: TTS) -> None:
    base = tts.synthesize(TEXT, speech(), PROMPT_TEXT, num_steps=2)
    assert not torch.equal(
        tts.synthesize(TEXT, speech(), PROMPT_TEXT, num_steps=2, guidance_scale=0.0), base
    )
    assert not torch.equal(
        tts.synthesize(TEXT, speech(), PROMPT_TEXT, num_steps=2, prompt_guidance=0.5), base
    )
    assert not torch.equal(
        tts.synthesize(TEXT, speech(), PROMPT_TEXT, num_steps=2, temperature=0.5), base
    )
    assert not torch.equal(tts.synthesize(TEXT, speech(), PROMPT_TEXT, num_steps=3), base)
    assert not torch.equal(
        tts.synthesize(TEXT.replace("you", "ewe"), speech(), PROMPT_TEXT, num_steps=2), base
    )
    assert (
        tts.synthesize(TEXT, speech(), PROMPT_TEXT, num_steps=2, speed=0.5).shape[-1]
        > 1.5 * base.shape[-1]
    )


def test_a_model_has_numbers_of_its_own_where_none_are_given(
    tts: TTS, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolved(**sampling: float) -> tuple[int | None, float | None, float | None]:
        settings = tts.resolve(Sampling(**sampling))
        return settings.num_steps, settings.guidance_scale, settings.prompt_guidance

    assert resolved() == (32, 2.0, 2.0) and resolved(guidance_scale=1.5) == (32, 1.5, 1.5)
    monkeypatch.setitem(tts.identity, "num_steps", 16)
    monkeypatch.setitem(tts.identity, "guidance", 1.25)
    monkeypatch.setitem(tts.identity, "prompt_guidance", 0.5)
    assert resolved() == (16, 1.25, 0.5)
    assert resolved(num_steps=4, prompt_guidance=3.0) == (4, 1.25, 3.0)
    assert resolved(guidance_scale=0.0) == (16, 0.0, 0.0)  # none is none
    assert resolved(guidance_scale=0.2) == (16, 0.2, 0.2)  # the model's own is no more than that
    monkeypatch.setitem(tts.identity, "prompt_guidance", 1.5)
    assert resolved() == (16, 1.25, 1.5)  # the model's own may be more than its guidance
    assert resolved(guidance_scale=1.25) == (16, 1.25, 1.5)
    assert resolved(guidance_scale=1.0) == (16, 1.0, 1.0)
    assert tts.resolve(Sampling()).temperature == 1.0
    monkeypatch.setitem(tts.identity, "temperature", 0.75)
    assert tts.resolve(Sampling()).temperature == 0.75
    assert tts.resolve(Sampling(temperature=0.0)).temperature == 0.0  # none is none


# ------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("text", ["", "  \n ", "\u200b"])
def test_empty_texts_are_refused(tts: TTS, text: str) -> None:
    with pytest.raises(DataError, match="^text: empty"):
        tts.synthesize(text, speech(), PROMPT_TEXT)
    with pytest.raises(DataError, match="^prompt text: empty"):
        tts.synthesize(TEXT, speech(), text)


def test_unknown_characters_are_named(tts: TTS) -> None:
    with pytest.raises(DataError, match="'7' .*'!'"):
        tts.synthesize("7 up!", speech(), PROMPT_TEXT)
    with pytest.raises(DataError, match="'Ö'"):
        tts.synthesize(TEXT, speech(), "ZÖo")


def test_letters_known_in_the_other_case_only_are_spoken_in_that(tts: TTS) -> None:
    shouted = tts.synthesize("HELLO THERE, YOU.", speech(), PROMPT_TEXT.upper(), num_steps=1)
    said = tts.synthesize("Hello tHere, you.", speech(), "tHe first sentence", num_steps=1)
    assert torch.equal(shouted, said)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (torch.zeros(1, RATE), "silent"),
        (torch.full((1, RATE), float("nan")), "NaN"),
        (torch.randn(2, RATE), "shape"),
        (torch.zeros(1, 0), "shape"),
        (
            torch.randn(1, int(9.1 * RATE)),
            "at most 9 s",
        ),  # trained on 12 s, of which 3 s are for new speech
        (torch.randn(1, 100), "at least 0.1 s"),
    ],
)
def test_unusable_prompts_are_refused(tts: TTS, prompt: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        tts.synthesize(TEXT, prompt, PROMPT_TEXT)


def test_results_that_are_too_long_or_too_short_for_their_text_are_refused(tts: TTS) -> None:
    with pytest.raises(DataError, match=rf"at most {MAX_TOTAL_SECONDS:g} s .*up to 12 s"):
        tts.synthesize("word " * 300, speech(), PROMPT_TEXT)
    with pytest.raises(DataError, match="do not fit"):
        tts.synthesize("word " * 30, speech(), PROMPT_TEXT, duration_seconds=1.0)


@pytest.mark.parametrize(
    "numbers",
    [{"num_steps": 0}, {"prompt_guidance": -1.5}, {"guidance_scale": -1.0}, {"guidance_scale": float("nan")}, {"speed": 0.0},
     {"duration_seconds": -2.0}, {"temperature": -0.5}, {"temperature": float("nan")}],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(tts: TTS, numbers: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        tts.synthesize(TEXT, speech(), PROMPT_TEXT, **numbers)


# ------------------------------------------------------------------------------------------- checkpoint


def test_statistics_and_identity_come_from_the_checkpoint(tts: TTS, folder: Path) -> None:
    vae = tts.representation.vae
    assert bool((vae.latent_mean == 1).all()) and bool((vae.latent_std == 2).all())
    assert (
        tts.identity["step"] == 7 and tts.identity["hash"] and tts.identity["path"] == str(folder)
    )
    assert not tts.model.training and not vae.training


def test_another_vae_inside_is_refused_with_both_hashes(
    folder: Path, tmp_path: Path, tiny_vae_config: VAEConfig
) -> None:
    other = write_tts(tmp_path / "other", tiny_vae_config, seed=1)
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    shutil.rmtree(mixed / "vae")
    shutil.copytree(other / "vae", mixed / "vae")
    right = json.loads((folder / "config.json").read_text())["vae_hash"]
    wrong = json.loads((other / "config.json").read_text())["vae_hash"]
    with pytest.raises(CheckpointError) as caught:
        load_tts(mixed)
    assert right in str(caught.value) and wrong in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    ["no_vae", "vae_as_tts", "vocabulary", "model_key", "own", "own_temperature", "weights"],
)
def test_damaged_checkpoints_are_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    config = json.loads((broken / "config.json").read_text())
    if damage == "no_vae":
        shutil.rmtree(broken / "vae")
    elif damage == "vae_as_tts":
        broken = broken / "vae"
    elif damage == "weights":
        with (broken / "model.safetensors").open("r+b") as file:
            file.seek(-4, 2)
            file.write(b"\1\2\3\4")
    else:
        config |= {
            "vocabulary": {"vocabulary": ["a"]},
            "model_key": {"model": {**config["model"], "depth": "two"}},
            "own": {"prompt_guidance": -3},
            "own_temperature": {"temperature": "warm"},
        }[damage]
        (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError):
        load_tts(broken)
