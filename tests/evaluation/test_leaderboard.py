"""`svae leaderboard`: systems in order, tested against the best; only results that compare."""

from __future__ import annotations

import json
import re

import pytest

from svae.errors import ConfigError, DataError
from svae.evaluation.leaderboard import leaderboard
from svae.evaluation.statistics import holm

PROTOCOL = {"name": "mine", "label": "mine", "modified": [], "normalizer": "svae", "asr": "fake", "seeds": [0]}  # fmt: skip


def write(folder, errors, *, sim=None, protocol=None, ids=None, **more):
    """Write a result: `errors` of four words for each utterance; None: of a text without words."""
    folder.mkdir(parents=True)
    names = ids or [f"u{i}" for i in range(len(errors))]
    rows = []
    for name, wrong in zip(names, errors, strict=True):
        scored = {"audio": "x", "seconds": 1.0, "hypothesis": "", "wer": None if wrong is None else wrong / 4, "substitutions": wrong,
                  "deletions": 0, "insertions": 0, "words": 4}  # fmt: skip
        if sim is not None:
            scored["sim_ecapa"] = sim
        rows.append({"id": name, "text": "a b c d", "speaker": "s", "recordings": {"wavs": scored, "originals": scored | {"wer": None if wrong is None else 0.0, "substitutions": 0}}})  # fmt: skip
    metrics = {
        "format": 2, "list": {"list": "l.jsonl", "sha256": "5" * 64, "utterances": len(rows)}, "protocol": PROTOCOL | (protocol or {}),
        "judges": {"asr": {"spec": "fake", "model": "m"}} | ({} if sim is None else {"sim_ecapa": {"speaker": "e", "model": "m"}}),
        "headline": "wer", "system_recordings": ["wavs"], "system_name": f"name of {folder.name}", "system": {}, "errors": [],
        "settings": {}, "task": "wavs",
    } | more  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "utterances.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    timings = {"real_time_factor": 0.25, "first_audio_seconds": {"median": 0.5, "90 %": 0.6}}
    (folder / "timings.json").write_text(json.dumps(timings))
    return str(folder)


def test_holm_gives_the_corrections_of_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([0.2]) == [0.2] and holm([]) == []


@pytest.fixture
def three(tmp_path):
    """A good system, one that is worse in every utterance, one that differs from the best in a single one."""
    best = [0] * 8
    return [
        write(tmp_path / "bad", [4] * 8, sim=0.9),
        write(tmp_path / "best", best, sim=0.5),
        write(tmp_path / "near", [0] * 7 + [1], sim=0.5),
    ]


def test_systems_stand_in_order_with_corrected_tests_against_the_best(three, tmp_path, capsys):
    board = leaderboard(three, out=tmp_path / "out")
    assert list(board["systems"]) == ["best", "near", "bad"]
    tests = {name: system["against_best"]["wer"] for name, system in board["systems"].items()}
    assert tests["best"] is None
    assert tests["bad"]["p"] == 2 / 2**8 and tests["bad"]["p_holm"] == 4 / 2**8
    assert tests["near"]["p"] == tests["near"]["p_holm"] == 1.0
    assert tests["bad"]["difference"] == 1.0 and tests["near"]["best"] == "best"
    # Another score has another best.
    similarity = {name: s["against_best"]["sim_ecapa"] for name, s in board["systems"].items()}
    assert similarity["bad"] is None and similarity["best"]["best"] == "bad"
    assert board["systems"]["best"]["real_time_factor"] == 0.25
    assert board == json.loads((tmp_path / "out/leaderboard.json").read_text())
    text = (tmp_path / "out/leaderboard.md").read_text()
    lines = [line.split(" | ")[0].strip("| ") for line in text.splitlines() if line.startswith("|")]
    assert lines[2:] == ["best", "near", "bad", "originals"]
    assert "p = 0.016" in text and "Holm" in text
    printed = capsys.readouterr().out
    assert re.search(r"best\s+0.00 .* best\n", printed) and re.search(r"bad\s+100.00 .* 0.0156\s", printed)  # fmt: skip


def test_the_page_shows_the_same_and_asks_no_network(tmp_path):
    hostile = "<script>x</script>=&"
    named = [f"{hostile[:10]}={write(tmp_path / 'a', [0, 1])}", write(tmp_path / "b", [1, 1])]
    leaderboard(named, out=tmp_path / "out")
    page = (tmp_path / "out/leaderboard.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=|url\(|https?://", page)
    assert page.count("<circle") == 3 and "50.00" not in page.split("<table")[0]


def test_speakers_are_the_units_where_that_is_asked(three, tmp_path):
    board = leaderboard(three, cluster=True, out=tmp_path / "out")
    assert board["unit"] == "speaker"
    assert board["systems"]["bad"]["against_best"]["wer"]["p"] == 1.0  # one speaker says nothing


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"protocol": {"name": "other"}}, "not one protocol: name is 'mine' and 'other'"),
        ({"protocol": {"num_beams": 5}}, "not one protocol: num_beams is None and 5"),
        ({"list": {"list": "l", "sha256": "6" * 64, "utterances": 2}}, "list sha256 differ"),
        ({"ids": ["u0", "other"]}, "not one list: 2 utterances are in one of them only"),
        ({"judges": {"asr": {"spec": "other"}}}, "recognisers differ"),
        ({"format": 1}, "results of format 1"),
    ],
)
def test_results_that_do_not_compare_are_refused(tmp_path, more, said):
    pair = [write(tmp_path / "a", [0, 1]), write(tmp_path / "b", [0, 1], **more)]
    with pytest.raises(DataError, match=said):
        leaderboard(pair, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_judges_of_the_voice_leave_its_columns_out(tmp_path):
    pair = [write(tmp_path / "a", [0, 1], sim=0.5), write(tmp_path / "b", [0, 1])]
    board = leaderboard(pair, out=tmp_path / "out")
    assert "sim_ecapa" not in board["columns"]
    assert any("sim_ecapa: only one of them has it" in note for note in board["notes"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1, 2]", "got list"),
        ("null", "got NoneType"),
        ('{"real_time_factor": 0.2', "cannot be read"),
        ('{"real_time_factor": "fast"}', "`real_time_factor` is 'fast'"),
        ('{"first_audio_seconds": [1]}', r"`first_audio_seconds` \[1\]"),
        ('{"first_audio_seconds": {"median": -1}}', "`first_audio_seconds` -1"),
    ],
)
def test_damaged_timings_are_named_and_missing_ones_are_unknown(tmp_path, content, said):
    pair = [write(tmp_path / "a", [0, 1]), write(tmp_path / "b", [1, 1])]
    (tmp_path / "b/timings.json").write_text(content)
    with pytest.raises(DataError, match=rf"b/timings\.json: damaged: .*{said}.*delete the file"):
        leaderboard(pair, out=tmp_path / "out")
    (tmp_path / "b/timings.json").unlink()
    board = leaderboard(pair, out=tmp_path / "out")
    assert board["systems"]["b"]["real_time_factor"] is None


def test_other_numbers_of_seeds_are_a_note(tmp_path, capsys):
    write(tmp_path / "a", [0, 1])
    write(tmp_path / "b", [0, 1], protocol={"seeds": [0, 1], "modified": ["seeds"], "label": "mine (modified: seeds)"}, system_recordings=["wavs", "originals"])  # fmt: skip
    board = leaderboard([str(tmp_path / "a"), str(tmp_path / "b")], out=tmp_path / "out")
    assert any("1 or 2 recordings of each utterance" in note for note in board["notes"])
    assert "mine (modified: seeds)" in (tmp_path / "out/leaderboard.md").read_text()
    assert "Note: b: protocol mine (modified: seeds)\n" in capsys.readouterr().out


def test_judges_that_heard_other_numbers_of_clips_together_are_a_note(tmp_path, capsys):
    sizes = {"a": 1, "b": 16, "c": 1}
    for name, size in sizes.items():
        write(tmp_path / name, [0, 1], judging={"batch_size": size})
    board = leaderboard([str(tmp_path / name) for name in "ac"], out=tmp_path / "out")
    assert not any("clips" in note for note in board["notes"])
    board = leaderboard([str(tmp_path / name) for name in sizes], out=tmp_path / "out")
    said = "judges heard 1 (a, c) or 16 (b) clips at a time; that alone may change a few words"
    assert said in board["notes"] and said in capsys.readouterr().out
    assert said in (tmp_path / "out/leaderboard.md").read_text()


def test_without_words_nobody_is_first_and_a_note_says_so(tmp_path, capsys):
    """Of reconstructions without texts only other scores are known."""
    pair = [write(tmp_path / name, [None] * 2, sim=sim) for name, sim in (("z", 0.5), ("a", 0.9))]
    board = leaderboard(pair, out=tmp_path / "out")
    assert list(board["systems"]) == ["z", "a"] and board["columns"] == ["sim_ecapa"]
    assert board["systems"]["a"]["against_best"]["sim_ecapa"] is None
    printed = capsys.readouterr().out
    assert re.search(r"z\s+0\.50.*—\n", printed) and re.search(r"a\s+0\.90.*—\n", printed)
    assert "best" not in printed and "p: of" not in printed
    said = "not all systems have WER %, the protocol's headline: they stand in the order in which they were named"
    assert any(said in note for note in board["notes"]) and said in " ".join(printed.split())


def test_one_result_or_one_twice_is_no_leaderboard(tmp_path):
    a = write(tmp_path / "a", [0, 1])
    b = write(tmp_path / "x" / "a", [0, 1])
    for results, said in (
        ([a], "at least two"),
        ([a, a], "two results are called 'a'"),
        ([a, f"z={a}"], "there twice"),
        ([a, b], "two results are called 'a'"),
        ([f"={a}", b], "expected DIR or NAME=DIR"),
        ([f"originals={a}", b], "no such name"),
    ):
        with pytest.raises(ConfigError, match=said):
            leaderboard(results, out=tmp_path / "out")
    with pytest.raises(DataError, match="no results of `svae evaluate`"):
        leaderboard([a, str(tmp_path / "none")], out=tmp_path / "out")
