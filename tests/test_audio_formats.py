"""Formats that libsndfile does not read, and channels that are not alike."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from fake_corpora import run, write_rows

from svae.audio import AudioError, audio_seconds, load_audio
from svae.errors import DataError

RATE = 16000
KINDS = {
    "a.m4a": ("mp4", "aac"),
    "a.mp4": ("mp4", "aac"),
    "a.mov": ("mov", "alac"),
    "a.webm": ("webm", "libopus"),
    "a.mka": ("matroska", "libopus"),
    "a.wma": ("asf", "wmav2"),
    "a.aac": ("adts", "aac"),
    "a.avi": ("avi", "pcm_s16le"),
}


def tone(seconds: float = 1.0, rate: int = RATE, amplitude: float = 0.3) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * 220 * np.arange(int(seconds * rate)) / rate)).astype("f")


def write_av(path: Path, channels: np.ndarray, rate: int = RATE, *, video: bool = False) -> Path:
    """Write (channels, samples) as the path's suffix says; with `video`, a second of it stands first."""
    container, codec = KINDS[f"a{path.suffix}"]
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(channels)]
    rate_written = 48000 if codec == "libopus" else rate
    with av.open(str(path), "w", format=container) as out:
        if video:
            pictures = out.add_stream("mpeg4", rate=10)
            pictures.width = pictures.height = 32
        stream = out.add_stream(codec, rate=rate_written, layout=layout, bit_rate=96000)
        if video:
            for _ in range(10):
                out.mux(pictures.encode(av.VideoFrame(32, 32, "yuv420p")))
            out.mux(pictures.encode(None))
        resampler = av.AudioResampler(stream.format.name, layout, rate_written, stream.frame_size)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), "fltp", layout)
        frame.sample_rate = rate
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return path


# ------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("name", KINDS)
def test_what_ffmpeg_reads_is_read(tmp_path: Path, name: str) -> None:
    path = write_av(tmp_path / name, tone()[None])
    waveform, rate = load_audio(path, sample_rate=RATE)
    assert rate == RATE and waveform.shape[0] == 1 and waveform.dtype == torch.float32
    assert waveform.shape[1] / RATE == pytest.approx(1.0, abs=0.15)
    assert float(waveform[0, 4000:-4000].square().mean().sqrt()) == pytest.approx(0.212, rel=0.05)
    assert audio_seconds(path) == pytest.approx(1.0, abs=0.2)
    with open(path, "rb") as file:
        torch.testing.assert_close(load_audio(file, sample_rate=RATE)[0], waveform)


def test_the_sound_of_a_film_is_read_whatever_the_suffix(tmp_path: Path) -> None:
    film = write_av(tmp_path / "a.mp4", np.stack([tone(2.0, 44100)] * 2), 44100, video=True)
    renamed = film.rename(tmp_path / "recording.wav")
    waveform, rate = load_audio(renamed)
    assert rate == 44100 and waveform.shape[1] == pytest.approx(2 * rate, abs=2100)


def test_what_libsndfile_reads_keeps_its_bytes(tmp_path: Path) -> None:
    noise = torch.randn(4000, generator=torch.Generator().manual_seed(0)).numpy() * 0.1
    for name in ("a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"):
        soundfile.write(tmp_path / name, noise, RATE)
        expected = soundfile.read(tmp_path / name, dtype="float32")[0]
        assert np.array_equal(load_audio(tmp_path / name)[0][0].numpy(), expected)


@pytest.mark.parametrize("name", ["a.m4a", "a.webm", "a.wma", "a.mka", "a.mov"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
def test_a_file_that_was_cut_off_is_refused_by_name(
    tmp_path: Path, name: str, share: float
) -> None:
    path = write_av(tmp_path / name, tone(4.0)[None])
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(AudioError) as caught:
        load_audio(path)
    assert str(path) in str(caught.value) and caught.value.reason == "unreadable"


@pytest.mark.parametrize(
    "kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "OGG", "OPUS", "MP3"]
)
@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_what_libsndfile_takes_for_whole_though_it_breaks_off_is_refused(
    tmp_path: Path, kind: str, share: float
) -> None:
    path = tmp_path / "a.audio"
    container, codec = ("OGG", "OPUS") if kind == "OPUS" else (kind, None)
    noise = np.random.default_rng(0).normal(0, 0.1, 12 * RATE)
    soundfile.write(path, noise, RATE, format=container, subtype=codec)
    data = path.read_bytes()
    assert load_audio(path)[0].shape[1] == pytest.approx(len(noise), abs=2000)
    path.write_bytes(data[: int(share * len(data))])
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(AudioError, match="breaks off after") as caught:
            load_audio(source)
        assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("size", [0, 2**31 - 1, 2**32 - 1])
def test_a_wav_whose_length_was_never_filled_in_is_read_to_its_end(
    tmp_path: Path, size: int
) -> None:
    soundfile.write(tmp_path / "a.wav", tone(2.0), RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = size.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    assert load_audio(tmp_path / "a.wav")[0].shape == (1, 2 * RATE)


def test_a_wav_that_counts_its_header_too_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(2.0), RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[40:44] = len(data).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    assert load_audio(tmp_path / "a.wav")[0].shape == (1, 2 * RATE)


def test_damage_inside_and_files_without_sound_are_refused_by_name(tmp_path: Path) -> None:
    path = write_av(tmp_path / "a.m4a", tone(4.0)[None])
    data = bytearray(path.read_bytes())
    data[2000 : len(data) // 2] = b"\x5a" * (len(data) // 2 - 2000)
    path.write_bytes(data)
    with pytest.raises(DataError, match="a.m4a"):
        load_audio(path)
    with av.open(str(tmp_path / "mute.mp4"), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        out.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        out.mux(stream.encode(None))
    with pytest.raises(DataError, match=r"mute\.mp4.*no audio"):
        load_audio(tmp_path / "mute.mp4")


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    secret = write_av(tmp_path / "a.aac", tone()[None])
    lists = {
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n",
        "a.ffconcat": f"ffconcat version 1.0\nfile {secret.name}\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=name):
            load_audio(tmp_path / name)


def test_prepare_takes_such_recordings(tmp_path: Path) -> None:
    from svae.data.index import read_index
    from svae.data.prepare import prepare
    from svae.data.prepare_plan import PrepareOptions

    names = ["a.m4a", "a.webm", "a.wma"]
    for name in names:
        write_av(tmp_path / name, tone()[None])
    rows = [{"audio": name, "text": "one tone", "speaker": name[2:]} for name in names]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = PrepareOptions(
        corpus="jsonl", root=tmp_path / "list.jsonl", out=tmp_path / "out", workers=1
    )
    report = prepare(options)
    assert report.utterances == 3 and not report.rejected
    assert read_index(tmp_path / "out").samples


def test_prepare_notes_a_turned_channel_and_rejects_what_breaks_off(tmp_path: Path) -> None:
    from svae.data.prepare import prepare
    from svae.data.prepare_plan import PrepareOptions

    soundfile.write(tmp_path / "a.wav", np.stack([tone(), -tone()], 1), RATE)
    soundfile.write(tmp_path / "b.wav", tone(), RATE)
    soundfile.write(tmp_path / "c.wav", tone(), RATE)
    (tmp_path / "c.wav").write_bytes((tmp_path / "c.wav").read_bytes()[:20000])
    rows = [{"audio": f"{name}.wav", "text": "one tone", "speaker": name} for name in "abc"]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = PrepareOptions(
        corpus="jsonl", root=tmp_path / "list.jsonl", out=tmp_path / "out", workers=1
    )
    assert prepare(options).rejected == {"unreadable": 1}
    notes = []
    for shard in (tmp_path / "out").glob("*.tar"):
        with tarfile.open(shard) as tar:
            rows = [json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json")]
            notes += [row.get("audio_notes", []) for row in rows]
    assert sorted(map(len, notes)) == [0, 1]


def test_evaluate_finds_such_recordings(tmp_path: Path) -> None:
    from svae.evaluation.items import Item
    from svae.evaluation.make import existing_wavs

    items = [Item(name, "a", None, None, None) for name in ("one", "two")]
    for name in ("one.m4a", "two.webm"):
        write_av(tmp_path / name, tone(2.0)[None])
    found = existing_wavs(items, tmp_path)
    assert [found[item.id].path.name for item in items] == ["one.m4a", "two.webm"]
    assert found["one"].load(RATE).shape[0] == pytest.approx(2 * RATE, abs=3000)


# ------------------------------------------------------------------------------------------- channels


def level(waveform: torch.Tensor) -> float:
    return float(waveform.square().mean().sqrt())


@pytest.mark.parametrize("channels", [2, 3, 6, 8])
@pytest.mark.parametrize("which", [0, -1])
@pytest.mark.parametrize("other", ["silent", "offset", "hiss"])
def test_a_recording_in_one_channel_keeps_its_level(
    tmp_path: Path, channels: int, which: int, other: str
) -> None:
    data = np.zeros((RATE, channels), "f")
    if other == "offset":
        data += 0.005
    if other == "hiss":
        data += np.random.default_rng(0).normal(0, 1e-3, data.shape).astype("f")
    data[:, which] = tone()
    soundfile.write(tmp_path / "a.wav", data, RATE, subtype="FLOAT")
    got = load_audio(tmp_path / "a.wav")[0]
    assert 20 * np.log10(level(got - got.mean()) / level(torch.from_numpy(tone()))) == (
        pytest.approx(0.0, abs=0.1)
    )


@pytest.mark.parametrize("channels", [2, 6])
def test_equal_channels_are_the_mean_to_the_bit(tmp_path: Path, channels: int) -> None:
    wave = (np.random.default_rng(0).normal(0, 0.1, RATE)).astype("f")
    data = np.repeat(wave[:, None], channels, 1)
    soundfile.write(tmp_path / "a.wav", data, RATE, subtype="FLOAT")
    expected = torch.from_numpy(np.ascontiguousarray(data.T)).mean(0, keepdim=True)
    assert torch.equal(load_audio(tmp_path / "a.wav")[0], expected)


@pytest.mark.parametrize("share", [-0.9, -0.5, 0.3, 0.9])
def test_channels_of_one_voice_lose_little_whatever_their_signs(
    tmp_path: Path, share: float
) -> None:
    soundfile.write(
        tmp_path / "a.wav", np.stack([tone(), share * tone()], 1), RATE, subtype="FLOAT"
    )
    got = level(load_audio(tmp_path / "a.wav")[0]) / level(torch.from_numpy(tone()))
    assert 20 * np.log10(got) > -3.1
    assert got <= 1.001


@pytest.mark.parametrize(("channels", "turned"), [(2, [1]), (6, [1]), (6, [1, 3, 4])])
@pytest.mark.parametrize("hiss", [0.0, 0.02])
def test_channels_in_opposite_phase_are_turned_and_that_is_said(
    tmp_path: Path, channels: int, turned: list[int], hiss: float
) -> None:
    data = np.repeat(tone()[:, None], channels, 1)
    data[:, turned] *= -0.9
    data += np.random.default_rng(0).normal(0, hiss, data.shape).astype("f")
    soundfile.write(tmp_path / "a.wav", data, RATE, subtype="FLOAT")
    notes: list[str] = []
    got = load_audio(tmp_path / "a.wav", notes=notes)[0][0].numpy()
    assert np.corrcoef(got, tone())[0, 1] > 0.99
    assert 20 * np.log10(np.std(got) / np.std(tone())) == pytest.approx(0.0, abs=1.0)
    assert len(notes) == 1
    assert f"{', '.join(str(n + 1) for n in turned)} had the opposite phase" in notes[0]


def test_exactly_opposite_channels_are_one_of_them_and_unlike_ones_need_no_note(
    tmp_path: Path,
) -> None:
    notes: list[str] = []
    soundfile.write(tmp_path / "a.wav", np.stack([tone(), -tone()], 1), RATE, subtype="FLOAT")
    assert np.allclose(load_audio(tmp_path / "a.wav", notes=notes)[0][0].numpy(), tone(), atol=1e-6)
    assert "2 had the opposite phase of 1" in notes[0]
    notes.clear()
    noise = np.random.default_rng(0).normal(0, 0.1, (RATE, 2)).astype("f")
    soundfile.write(tmp_path / "b.wav", noise + tone()[:, None], RATE, subtype="FLOAT")
    load_audio(tmp_path / "b.wav", notes=notes)
    assert not notes


def test_five_one_in_a_film_keeps_its_level(tmp_path: Path) -> None:
    data = np.zeros((6, RATE), "f")
    data[2] = tone()
    got = load_audio(write_av(tmp_path / "a.m4a", data))[0]
    assert level(got[:, 4000:-4000]) == pytest.approx(0.212, rel=0.05)


# ------------------------------------------------------------------------------------------- lengths that headers say


def write_mp3(path: Path, seconds: float, *, rate: int = 44100, header: bool, variable: bool):
    """Write a quiet tone that becomes noise, with or without the encoder's header; return how many samples went in."""
    samples = tone(seconds, rate, 0.1)
    loud = len(samples) // 2
    samples[loud:] += 0.2 * np.random.default_rng(0).standard_normal(len(samples) - loud)
    muxer = {"write_xing": str(int(header)), "id3v2_version": "0"}
    encoder = {"flags": "+qscale", "global_quality": "472"} if variable else {}
    with av.open(str(path), "w", format="mp3", options=muxer) as out:
        stream = out.add_stream("libmp3lame", rate=rate, layout="mono", options=encoder)
        resampler = av.AudioResampler("fltp", "mono", rate, stream.frame_size)
        frame = av.AudioFrame.from_ndarray(samples[None].astype("f"), "fltp", "mono")
        frame.sample_rate = rate
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return len(samples)


TAG = b"TAG" + b"x" * 125
PICTURE = b"ID3\x03\0\0" + b"\0\x0c\x1c\0" + b"\xff\xfb\x90\x64" * 50_048


@pytest.mark.parametrize("rate", [44100, 16000, 8000])
@pytest.mark.parametrize("variable", [True, False])
@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b"", TAG), (PICTURE, b"")])
def test_an_mp3_without_its_encoder_s_header_is_read_to_its_end(
    tmp_path, rate, variable, before, after
):
    path = tmp_path / "a.mp3"
    samples = write_mp3(path, 3.0, rate=rate, header=False, variable=variable)
    path.write_bytes(before + path.read_bytes() + after)
    with open(path, "rb") as file:
        for source in (path, file):
            waveform, found = load_audio(source)
            # What the encoder added at the ends is in it: nothing says how much that is.
            assert found == rate and 0 <= waveform.shape[1] - samples <= 4 * 1152
            assert waveform[0, samples - rate // 5 : samples].square().mean().sqrt() > 0.1
    assert abs(audio_seconds(path) - 3.0) < 0.4


def test_joined_mp3s_are_read_to_the_end_of_the_last(tmp_path):
    path = tmp_path / "a.mp3"
    samples = write_mp3(path, 2.0, header=True, variable=True)
    path.write_bytes(path.read_bytes() * 3)
    assert 0 <= load_audio(path)[0].shape[1] - 3 * samples <= 12 * 1152
    assert abs(audio_seconds(path) - 6.0) < 0.3


@pytest.mark.parametrize("variable", [True, False])
def test_an_mp3_with_its_encoder_s_header_is_read_to_the_sample_as_ever(tmp_path, variable):
    path = tmp_path / "a.mp3"
    samples = write_mp3(path, 2.0, header=True, variable=variable)
    expected = soundfile.read(path, dtype="float32")[0]
    assert len(expected) == samples and np.array_equal(load_audio(path)[0][0].numpy(), expected)


def test_a_flac_that_does_not_say_its_length_is_read(tmp_path):
    samples = tone(2.0)
    soundfile.write(tmp_path / "a.flac", samples, RATE)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[21] &= 0xF0  # the number of samples, which whoever writes to a pipe does not know: 36 bits
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(data)
    assert load_audio(tmp_path / "a.flac")[0].shape == (1, len(samples))
    assert abs(audio_seconds(tmp_path / "a.flac") - 2.0) < 0.1


STATING = {
    "a.wav": ("WAV", "PCM_16"),
    "b.wav": ("WAV", "IMA_ADPCM"),
    "c.wav": ("WAV", "GSM610"),
    "d.wav": ("WAVEX", "PCM_24"),
    "a.rf64": ("RF64", "PCM_16"),
    "a.w64": ("W64", "FLOAT"),
    "a.aiff": ("AIFF", "PCM_16"),
    "a.caf": ("CAF", "PCM_16"),
    "a.au": ("AU", "ULAW"),
    "a.sph": ("NIST", "PCM_16"),
    "a.flac": ("FLAC", "PCM_16"),
    "a.ogg": ("OGG", "VORBIS"),
    "a.opus": ("OGG", "OPUS"),
    "a.mp3": ("MP3", "MPEG_LAYER_III"),
}
"""Of these libsndfile gives what is there, without a word where that is less than the header says."""


@pytest.mark.parametrize("name", STATING)
def test_a_file_of_which_the_end_is_missing_is_refused_and_a_whole_one_is_read(tmp_path, name):
    path = tmp_path / name
    container, subtype = STATING[name]
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype("f")
    soundfile.write(path, noise, RATE, format=container, subtype=subtype)
    data = path.read_bytes()
    assert len(noise) <= load_audio(path)[0].shape[1] <= len(noise) + 1200
    for share in (0.97, 0.6, 0.1):
        path.write_bytes(data[: int(share * len(data))])
        with open(path, "rb") as file:
            for source in (path, file):
                with pytest.raises(AudioError) as caught:
                    load_audio(source, name=name)
                assert name in str(caught.value)
                assert caught.value.reason in ("unreadable", "empty")


def test_the_message_says_how_much_of_a_cut_file_is_there(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(2.0), RATE)
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(data[: 44 + 32000])
    with pytest.raises(AudioError, match=r"a\.wav: .*breaks off after 1\.00 of 2\.00 s"):
        load_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("stated", [2**32 - 1, 2**31 - 1, 2**31, 2**31 - 4096, 64000 + 44])
def test_a_wav_that_could_not_know_its_length_or_counted_its_header_is_read(tmp_path, stated):
    soundfile.write(tmp_path / "a.wav", tone(2.0), RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = stated.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    assert load_audio(tmp_path / "a.wav")[0].shape == (1, 2 * RATE)


@pytest.mark.parametrize("name", ["a.ogg", "a.opus", "a.flac", "a.mp3", "a.wav"])
def test_what_follows_a_recording_in_its_file_is_not_missing_from_it(tmp_path, name):
    soundfile.write(
        tmp_path / name, tone(1.0), RATE, format=STATING[name][0], subtype=STATING[name][1]
    )
    with open(tmp_path / name, "ab") as file:
        file.write(TAG)
    assert load_audio(tmp_path / name)[0].shape[1] == RATE


def test_prepare_rejects_cut_files_with_the_reason(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    names = ["a.wav", "b.ogg", "c.flac", "d.mp3", "e.aiff", "whole.wav"]
    for name in names:
        soundfile.write(corpus / name, tone(1.0), RATE)
        if name != "whole.wav":
            data = (corpus / name).read_bytes()
            (corpus / name).write_bytes(data[: len(data) * 2 // 3])
    write_rows(corpus, [{"audio": name, "text": "t"} for name in names])
    report, _ = run(corpus, tmp_path / "out", shards=1)
    assert report.utterances == 1 and sum(report.rejected.values()) == 5
    listed = (tmp_path / "out" / "rejected.jsonl").read_text()
    assert listed.count("breaks off after") >= 3 and all(name in listed for name in names[:5])


def test_prepare_neither_cuts_nor_rejects_mp3s_by_what_their_headers_estimate(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(2):
        write_mp3(corpus / f"{number}.mp3", 1.0 + number, header=False, variable=True)
    quiet_first = (corpus / "1.mp3").read_bytes()
    # Its first frame has the lowest bit rate there is, by which a minute and a half would be expected.
    (corpus / "1.mp3").write_bytes(b"\xff\xfb\x10\xc4" + bytes(100) + quiet_first)
    write_rows(corpus, [{"audio": f"{number}.mp3", "text": "t"} for number in range(2)])
    report, _ = run(corpus, tmp_path / "out", shards=1, max_seconds=2.5)
    assert report.rejected == {} and abs(report.seconds - 3.0) < 0.4
