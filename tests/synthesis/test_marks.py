"""Every file says that it is synthetic and what made it; voices keep a note of consent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch
from tiny_tts import changed
from typer.testing import CliRunner

from svae.audio import load_audio
from svae.cli.app import app
from svae.errors import ConfigError, DataError
from svae.synthesis import marks
from svae.synthesis.command import SynthesizeOptions, synthesize_file
from svae.synthesis.marks import save_speech
from svae.synthesis.voices import check_consent, keep_voice

IDENTITY = {"hash": "a" * 64, "vae_hash": "b" * 64, "path": "/home/somebody/model"}
FORMATS = {
    "wav": ("WAV", "PCM_16", 16000),
    "flac": ("FLAC", "PCM_16", 16000),
    "ogg": ("OGG", "VORBIS", 16000),
    "opus": ("OGG", "OPUS", 48000),
    "mp3": ("MP3", "MPEG_LAYER_III", 24000),
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_keeps_what_made_it(name: str, tmp_path: Path) -> None:
    """Written by libsndfile, read by FFmpeg."""
    path = tmp_path / f"a.{name}"
    kind, subtype, rate = FORMATS[name]
    content = marks.tags(
        IDENTITY, 7, {"voice": "anna", "consent": 'Änne\'s "yes" \\ 2026', "reference": "/x"}
    )
    with soundfile.SoundFile(path, "w", rate, 1, subtype, format=kind) as file:
        marks.write_tags(file, content)
        file.write([0.1, -0.1] * rate)
    mark = marks.read_mark(path)
    assert mark is not None and mark.pop("tool").startswith("svae ")
    assert mark == {
        "model": "a" * 64, "vae": "b" * 64, "seed": 7, "consent": 'Änne\'s "yes" \\ 2026',
    }  # fmt: skip
    assert b"/home" not in path.read_bytes()
    assert len(load_audio(path)[0][0]) / rate == pytest.approx(2, abs=0.1)


def test_speech_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="NaN"):
        save_speech(tmp_path / "a.wav", torch.tensor([0.0, torch.nan]), 16000, {})
    assert not list(tmp_path.iterdir())


def test_what_says_nothing_has_no_mark(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "plain.wav", [0.1] * 1600, 16000)
    with soundfile.SoundFile(
        tmp_path / "broken.flac", "w", 16000, 1, "PCM_16", format="FLAC"
    ) as file:
        file.comment = f"{marks.SYNTHETIC} {{not json}}"
        file.write([0.1] * 1600)
    assert marks.read_mark(tmp_path / "plain.wav") is None
    assert marks.read_mark(tmp_path / "broken.flac") == {}
    (tmp_path / "text.wav").write_text("no audio")
    for wrong in ("text.wav", "absent.wav"):
        with pytest.raises(DataError, match=wrong):
            marks.read_mark(tmp_path / wrong)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_synthesized_files_say_so_and_doctor_reads_it(
    options: SynthesizeOptions, tmp_path: Path, suffix: str, stream: bool
) -> None:
    out = synthesize_file(changed(options, out=tmp_path / f"a{suffix}", stream=stream))
    report = json.loads((tmp_path / "a.json").read_text())
    mark = marks.read_mark(out)
    assert mark is not None and mark["model"] == report["model"]["hash"] and mark["seed"] == 5
    first = out.read_bytes()
    synthesize_file(changed(options, out=tmp_path / f"a{suffix}", stream=stream))
    assert out.read_bytes() == first  # same seed, same bytes
    soundfile.write(tmp_path / "plain.wav", [0.1] * 1600, 16000)
    result = CliRunner().invoke(app, ["doctor", str(out), str(tmp_path / "plain.wav")])
    assert result.exit_code == 0, result.output
    assert "AI-generated" in result.output and report["model"]["hash"] in result.output
    assert "Nothing in it says" in result.output
    assert CliRunner().invoke(app, ["doctor", str(tmp_path / "absent.wav")]).exception is not None


def test_a_voice_keeps_its_note_of_consent(
    options: SynthesizeOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVAE_VOICES", str(tmp_path / "voices"))
    assert options.ref is not None
    note = "Anna agreed by letter on 2026-11-28 to audiobooks"
    for name, consent in (("anna", f"  {note}\n"), ("nobody", None)):
        keep_voice(
            name, options.ref, options.ref_text, options.model, asr="pocketsphinx", device="cpu", consent=consent
        )  # fmt: skip
    for name, expected in (("anna", note), ("nobody", None)):
        out = synthesize_file(
            changed(options, ref=None, ref_text=None, voice=name, out=tmp_path / f"{name}.wav")
        )
        report = json.loads((tmp_path / f"{name}.json").read_text())
        mark = marks.read_mark(out)
        assert mark is not None and report["consent"] == expected == mark.get("consent")
        assert name == "anna" or b"nobody" not in out.read_bytes()
    for wrong in (" ", "x" * 501):
        with pytest.raises(ConfigError, match="--consent"):
            check_consent(wrong)


def certificates(folder: Path) -> tuple[Path, Path]:
    """Write a chain of two certificates, of a signer and of who vouches for it, and the signer's key."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        for name in ("tests", "root")
    ]
    chain = b""
    for number, (key, name) in enumerate(zip(keys, names, strict=True)):
        usage = dict.fromkeys(
            "content_commitment key_encipherment data_encipherment key_agreement encipher_only decipher_only".split(),
            False,
        )
        root = number == 1
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[1])
            .public_key(key.public_key())
            .serial_number(number + 1)
            .not_valid_before(datetime.datetime(2026, 1, 1))
            .not_valid_after(datetime.datetime(2066, 1, 1))
            .add_extension(x509.BasicConstraints(ca=root, path_length=None), True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not root, key_cert_sign=root, crl_sign=root, **usage
                ),
                True,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[1].public_key()), False
            )
        )
        if not root:
            made = made.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), True
            )
        chain += made.sign(keys[1], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (folder / "chain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(
        keys[0].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "chain.pem", folder / "key.pem"


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_files_are_signed_and_the_signature_notices_changes(
    options: SynthesizeOptions, tmp_path: Path, suffix: str
) -> None:
    pytest.importorskip("c2pa")
    from svae.synthesis.credentials import Credentials, read_credentials

    credentials = Credentials(*certificates(tmp_path))
    plain = synthesize_file(changed(options, out=tmp_path / f"plain{suffix}"))
    out = synthesize_file(changed(options, out=tmp_path / f"a{suffix}", credentials=credentials))
    assert read_credentials(plain) is None
    assert load_audio(out)[0].equal(load_audio(plain)[0])
    assert marks.read_mark(out) == marks.read_mark(plain)
    found = read_credentials(out)
    assert found is not None and found["state"] == "Valid" and found["signed_by"] == "tests"
    assert found["assertions"]["org.svae.speech"] == marks.read_mark(out)
    assert json.loads((tmp_path / "a.json").read_text())["signed"] is True
    result = CliRunner().invoke(app, ["doctor", str(out)])
    assert "C2PA" in result.output and "trainedAlgorithmicMedia" in result.output
    content = bytearray(out.read_bytes())
    content[len(content) // 2] ^= 1  # in the samples
    out.write_bytes(content)
    damaged = read_credentials(out)
    assert damaged is not None and damaged["state"] == "Invalid"


def test_credentials_that_cannot_be_used_are_refused_first(
    options: SynthesizeOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("c2pa")
    from svae.synthesis.credentials import Credentials

    monkeypatch.setattr("svae.synthesis.command.load_tts", lambda *_: pytest.fail("loaded a model"))
    chain, key = certificates(tmp_path)
    (tmp_path / "empty.pem").write_text("")
    for credentials in (
        Credentials(tmp_path / "absent.pem", key), Credentials(chain, tmp_path / "empty.pem"), Credentials(key, chain),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="--c2pa-cert"):
            synthesize_file(changed(options, credentials=credentials))
    with pytest.raises(ConfigError, match="--stream"):
        synthesize_file(changed(options, credentials=Credentials(chain, key), stream=True))
