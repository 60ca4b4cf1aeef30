"""`svae listen`: a balanced, blind test; a page that works in a browser; scores of known answers."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import soundfile

from svae.errors import ConfigError, DataError
from svae.evaluation.listening import material
from svae.evaluation.listening.design import KINDS, attentive, design
from svae.evaluation.listening.make import ListenOptions, make_test
from svae.evaluation.listening.score import krippendorff_alpha, score_test
from svae.evaluation.listening.serve import open_server
from svae.evaluation.report.listening import BEGIN, END
from svae.evaluation.rows import Row, Scored

ITEMS = [f"item{i}" for i in range(6)]


# ------------------------------------------------------------------------------------------ design


@pytest.mark.parametrize(("listeners", "questions"), [(6, 6), (4, None), (5, 7), (1, 4)])
def test_pairs_items_and_sides_are_balanced(listeners, questions):
    systems = ["x", "y", "z"]
    sheets = design(systems, ITEMS, kinds=KINDS, listeners=listeners, questions=questions, seed=3)
    assert len(sheets) == listeners
    for kind, groups in (("preference", list(combinations(systems, 2))), ("mos", [("x",), ("y",), ("z",)])):  # fmt: skip
        asked = Counter()
        ways = Counter()
        for sheet in sheets:
            own = [trial for trial in sheet if trial.kind == kind and trial.check is None]
            assert len(own) == (questions or len(groups) * len(ITEMS))
            items = Counter(trial.item for trial in own)
            assert max(items.values()) - min(items[item] for item in ITEMS) <= 1
            for trial in own:
                asked[trial.item, tuple(sorted(trial.systems))] += 1
                ways[trial.systems] += 1
            checks = [i for i, trial in enumerate([t for t in sheet if t.kind == kind]) if trial.check]  # fmt: skip
            assert len(checks) == max(1, len(own) // 10) and 0 not in checks
        assert max(asked.values()) - min(asked.values()) <= 1
        if kind == "preference":
            assert all(abs(ways[a, b] - ways[b, a]) <= 1 for a, b in groups)
    kinds = [trial.kind for trial in sheets[0]]
    assert kinds == sorted(kinds, key=KINDS.index)  # one kind after the other
    assert design(systems, ITEMS, kinds=KINDS, listeners=listeners, questions=questions, seed=3) == sheets  # fmt: skip
    if (
        listeners == 4
    ):  # all cells, again and again: the second listener hears each pair the other way round
        first, second = ({(t.item, t.systems) for t in s if t.kind == "preference" and not t.check} for s in sheets[:2])  # fmt: skip
        assert {(item, pair[::-1]) for item, pair in first} == second


def test_answers_to_checks():
    assert attentive("first", 1) and not attentive("first", 0) and attentive("second", -3)
    assert attentive("noise", 2) and not attentive("noise", 3) and attentive("same", 4)


# ------------------------------------------------------------------------------------------ making


def write_wavs(folder, seconds):
    folder.mkdir()
    for i, item in enumerate(ITEMS):
        time = np.arange(int(8000 * seconds)) / 8000
        soundfile.write(
            folder / f"{item}.wav", 0.2 * np.sin(2 * np.pi * (200 + 40 * i) * time), 8000
        )
    return folder


@pytest.fixture
def made(tmp_path):
    """A made test of two systems, `good` and `poor`, of which a listener hears six pairs and six of each alone."""
    good, poor = (
        write_wavs(tmp_path / "secret-good", 0.11),
        write_wavs(tmp_path / "secret-poor", 0.13),
    )
    (poor / "other.wav").write_bytes((poor / "item0.wav").read_bytes())
    make_test(ListenOptions(systems=(f"good={good}", f"poor={poor}"), out=tmp_path / "out", listeners=4, questions=6))  # fmt: skip
    return tmp_path / "out"


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_is_blind_whole_and_asks_no_network(made):
    page = (made / "listen.html").read_text()
    key = json.loads((made / "key.json").read_text())
    assert not re.search("good|poor|secret|item\\d|check", page.split("<script>")[0])
    assert not re.search(r"""(src|href)=["']?http|url\(""", page) and "default-src 'none'" in page
    sheets = data_of(page)["sheets"]
    assert [len(sheet) for sheet in sheets] == [14] * 4 and len(key["trials"]) == 56
    clips = dict(re.findall(r'id="clip-(\w+)">([^<]*)<', page))
    lengths = {"good": 880, "poor": 1040}
    told = {t["trial"]: t for t in key["trials"]}
    for shown in (trial for sheet in sheets for trial in sheet):
        trial = told[shown["trial"]]
        assert set(shown) == {"trial", "kind", "clips"} and len(shown["clips"]) == len(
            trial["systems"]
        )
        for clip, system in zip(shown["clips"], trial["systems"], strict=True):
            samples, rate = soundfile.read(io.BytesIO(base64.b64decode(clips[clip])))
            assert rate == 8000 and len(samples) == lengths[system]
        noisy = {"first": [1], "second": [0], "noise": [0]}.get(trial["check"], [])
        for i, clip in enumerate(shown["clips"]):
            samples, _ = soundfile.read(io.BytesIO(base64.b64decode(clips[clip])))
            spectrum = np.abs(np.fft.rfft(samples)) ** 2
            assert (np.sort(spectrum)[-5:].sum() / spectrum.sum() < 0.8) == (i in noisy)
    assert "other" not in json.dumps(key["trials"])  # only one system said it


def test_recordings_play_at_one_loudness(tmp_path):
    from svae.synthesis.loudness import measure

    a, b = write_wavs(tmp_path / "a", 0.5), write_wavs(tmp_path / "b", 0.5)
    for path in b.iterdir():
        samples, rate = soundfile.read(path)
        soundfile.write(path, 0.1 * samples, rate)
    import torch

    for loudness, spread in ((-30.0, 0.1), (None, 15.0)):
        make_test(ListenOptions(systems=(str(a), str(b)), out=tmp_path / "out", listeners=1, kinds=("mos",), loudness=loudness))  # fmt: skip
        page = (tmp_path / "out/listen.html").read_text()
        found = []
        for clip in re.findall(r'id="clip-\w+">([^<]*)<', page):
            samples, rate = soundfile.read(io.BytesIO(base64.b64decode(clip)), dtype="float32")
            found.append(measure(torch.from_numpy(samples), rate))
        assert (max(found) - min(found) < spread) == (loudness is not None)


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({"kinds": ("similarity",)}, ConfigError, "6 of 6 items have no reference"),
        ({"kinds": ("beauty",)}, ConfigError, "--kind beauty: expected one of"),
        ({"kinds": ("mos", "mos")}, ConfigError, "each kind once"),
        ({"listeners": 0}, ConfigError, "must be at least 1"),
        ({"seed": 2**63}, ConfigError, "--seed 9223372036854775808: expected"),
        ({"seed": -1}, ConfigError, "--seed -1: expected"),
        ({"systems": ("a",)}, ConfigError, "a preference needs two systems"),
        ({"systems": ("a", "x/a")}, ConfigError, "a name of its own"),
        ({"systems": ("a", "nothing")}, DataError, "nothing: no such folder"),
        ({"systems": ("a", "empty")}, DataError, "neither a result"),
    ],
)
def test_tests_that_cannot_be_made_are_refused(tmp_path, monkeypatch, more, error, said):
    monkeypatch.chdir(tmp_path)
    write_wavs(tmp_path / "a", 0.1)
    write_wavs(tmp_path / "b", 0.1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=said):
        make_test(ListenOptions(**({"systems": ("a", "b"), "out": tmp_path / "out"} | more)))
    assert not (tmp_path / "out").exists()


def test_what_no_system_said_is_counted_as_left_out(tmp_path, monkeypatch, capsys):
    said = {"heard": None, "silent": "the program ended with status 3"}
    wavs = write_wavs(tmp_path / "wavs", 0.1)
    rows = [
        Row(id=name, speaker=None, text=name, prompt=None, prompt_text=None, recordings={
            "seed 0": Scored(str(wavs / "item0.wav"), 0.1, "", None, {}, error=error)
        })
        for name, error in said.items()
    ]  # fmt: skip
    monkeypatch.setattr(
        material, "read_results", lambda folder: ({"system_recordings": ["seed 0"]}, rows)
    )
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").touch()
    systems = (str(tmp_path / "a"), str(tmp_path / "b"))
    make_test(ListenOptions(systems=systems, out=tmp_path / "out", listeners=1, kinds=("mos",)))
    assert "2 systems, 1 items; 1 left out, which not all have;" in capsys.readouterr().out


def test_a_new_test_takes_no_key_away_from_answers(made, tmp_path):
    write_answers(made, answers_of(made, "anna", 1, lambda t: 1))
    before = {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()}
    systems = (f"good={tmp_path / 'secret-good'}", f"poor={tmp_path / 'secret-poor'}")
    same = ListenOptions(systems=systems, out=made, listeners=4, questions=6)
    other = write_wavs(tmp_path / "other", 0.12)
    others = [
        replace(same, seed=1),
        replace(same, systems=systems[::-1]),
        replace(same, systems=(systems[0], f"poor={other}")),
        replace(same, systems=(systems[0].replace("good", "name", 1), systems[1])),
    ]
    for options in others:
        with pytest.raises(DataError, match=r"answers/0\.json.*another test.*another folder"):
            make_test(options)
        kept = {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()}
        assert kept == before
    (made / "key.json").unlink()
    make_test(same)
    assert (made / "key.json").read_bytes() == before["key.json"]


# ------------------------------------------------------------------------------------------ scoring


def answers_of(folder, listener, sheet, value, *, attention=True):
    """Return a listener's file: `value(trial)` to every question; checks passed or not."""
    key = json.loads((folder / "key.json").read_text())
    right = {"first": 2, "second": -2, "noise": 1, "same": 5}
    wrong = {"first": -2, "second": 2, "noise": 5, "same": 1}
    answers = [
        {"trial": t["trial"], "value": (right if attention else wrong)[t["check"]] if t["check"] else value(t)}
        for t in key["trials"]
        if t["sheet"] == sheet
    ]  # fmt: skip
    return {"format": 1, "test": key["test"], "listener": listener, "sheet": sheet, "finished": "now", "answers": answers}  # fmt: skip


def opinion(trial):
    """`good` is two better than `poor`; alone it has 4, `poor` 2, one more for every second item."""
    if trial["kind"] == "preference":
        return 2 if trial["systems"][0] == "good" else -2
    return {"good": 4, "poor": 2}[trial["systems"][0]] + int(trial["item"][-1]) % 2


def write_answers(folder, *files):
    (folder / "answers").mkdir(exist_ok=True)
    for i, found in enumerate(files):
        (folder / "answers" / f"{i}.json").write_text(json.dumps(found))


def test_known_answers_give_known_scores(made, capsys):
    honest = [answers_of(made, f"l{i}", i, opinion) for i in (1, 2, 3)]
    asleep = answers_of(made, "asleep", 4, lambda t: 1, attention=False)
    write_answers(made, *honest, asleep, honest[0])  # one was sent twice
    result = score_test(made)
    (pair,) = result["scores"]["preference"]["pairs"]
    assert (pair["first"], pair["second"], pair["mean"]) == ("good", "poor", 2.0)
    assert pair["first_preferred"] == 1.0 and pair["answers"] == 18 and pair["interval"] == [2, 2]
    assert pair["p"] == pair["p_holm"] == 2 / 2**6  # six items, all one way
    mos = result["scores"]["mos"]["systems"]
    heard = {name: [v for s in honest for a, v in ((t["trial"], t["value"]) for t in s["answers"])
                    for k in [trial_of(made, a)] if k["kind"] == "mos" and not k["check"] and k["systems"] == [name]]
             for name in ("good", "poor")}  # fmt: skip
    for name, values in heard.items():
        assert mos[name]["mean"] == pytest.approx(sum(values) / len(values)) and len(values) == 9
        low, high = mos[name]["interval"]
        assert low <= mos[name]["mean"] <= high and high - low > 0
    assert result["listeners"]["asleep"] == {"checks_passed": 0, "checks": 2, "counted": False}
    assert result["listeners"]["l1"]["counted"]
    assert result["scores"]["mos"]["agreement"]["krippendorff_alpha"] == 1.0
    assert result == json.loads((made / "listening.json").read_text())
    printed = capsys.readouterr().out
    assert "good over poor" in printed and "asleep" in printed
    assert "| CMOS | good over poor | 2.00 [2.00, 2.00] |" in (made / "listening.md").read_text()


def trial_of(folder, name):
    return next(t for t in json.loads((folder / "key.json").read_text())["trials"] if t["trial"] == name)  # fmt: skip


def test_krippendorffs_own_example():
    """The reliability data of his paper of 2011: alpha for interval data is 0.849."""
    raters = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    units = [[float(v) for v in column if v != "."] for column in zip(*map(str.split, raters), strict=True)]  # fmt: skip
    assert krippendorff_alpha(units) == pytest.approx(0.849, abs=5e-4)
    assert krippendorff_alpha([[1], [2]]) is None and krippendorff_alpha([[3, 3], [3, 3]]) is None
    assert krippendorff_alpha([[1, 5], [5, 1]]) < 0


def test_scores_join_the_report_of_an_evaluation(tmp_path):
    folders = []
    for name, seconds in (("a", 0.11), ("b", 0.13)):
        wavs = write_wavs(tmp_path / f"wavs-{name}", seconds)
        out = tmp_path / name
        out.mkdir()
        rows = []
        for item in ITEMS:
            scored = {"audio": str(wavs / f"{item}.wav"), "seconds": 1.0, "hypothesis": "", "wer": 0.0, "substitutions": 0,
                      "deletions": 0, "insertions": 0, "words": 1}  # fmt: skip
            prompt = str(wavs / "item0.wav")
            rows.append(
                {
                    "id": item,
                    "text": item,
                    "prompt": prompt,
                    "recordings": {"seed 0": scored, "seed 1": scored},
                }
            )
        metrics = {"format": 2, "list": {"sha256": "1"}, "protocol": {}, "judges": {}, "system_recordings": ["seed 0", "seed 1"],
                   "system_name": name, "system": {}, "errors": []}  # fmt: skip
        (out / "metrics.json").write_text(json.dumps(metrics))
        (out / "utterances.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (out / "report.html").write_text(f"<p>before{BEGIN}{END}after</p>")
        folders.append(str(out))
    hostile = f"<b>&={folders[1]}"
    make_test(
        ListenOptions(
            systems=(f"a={folders[0]}", hostile), out=tmp_path / "out", kinds=KINDS, listeners=2
        )
    )
    assert "reference" in data_of((tmp_path / "out/listen.html").read_text())["sheets"][0][-1]
    value = lambda t: 3 if t["kind"] != "preference" else (1 if t["systems"][0] == "a" else -1)  # noqa: E731
    write_answers(tmp_path / "out", answers_of(tmp_path / "out", "anna", 1, value))
    for _ in range(2):  # again replaces, and adds nothing
        score_test(tmp_path / "out")
        text = (tmp_path / "a/report.html").read_text()
        assert text.startswith("<p>before") and text.endswith("after</p>")
        assert text.count('id="listening"') == 1 and "CMOS over &lt;b&gt;&amp;" in text
    assert '<span class="value">-1.00</span>' in (tmp_path / "b/report.html").read_text()
    found = json.loads((tmp_path / "b/listening.json").read_text())
    assert found["opinions"]["similarity"]["mean"] == 3.0 and found["listeners"] == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f | {"test": "other"}, "answers to test 'other'"),
        (lambda f: f | {"listener": ""}, "no listener"),
        (lambda f: f | {"answers": [{"trial": "9-9", "value": 1}]}, "answers no question"),
        (lambda f: f | {"answers": [{"trial": f["answers"][0]["trial"], "value": 9}]}, "9 is not from"),
        (lambda f: f | {"answers": [{"trial": f["answers"][0]["trial"], "value": "3"}]}, "answers no question"),
        (lambda f: f | {"answers": [{"trial": 11, "value": 1}]}, "answers no question"),
        (lambda f: f | {"answers": [*f["answers"], f["answers"][2] | {"value": 1}]}, "is answered twice, .* and 1"),
        (lambda f: f | {"answers": f["answers"][:1] * 2}, "is answered twice"),
        (lambda f: [f], "expected answers of a listening test"),
    ],
)  # fmt: skip
def test_damaged_answers_are_named(made, change, said):
    write_answers(made, change(answers_of(made, "anna", 1, opinion)))
    with pytest.raises(DataError, match=said):
        score_test(made)


def damaged_trial(**changes):
    """Return what puts other fields into the first question of a key."""
    return lambda key: key | {"trials": [key["trials"][0] | changes, *key["trials"][1:]]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda key: [key], "expected the key that `svae listen` wrote, got list"),
        (lambda key: key | {"format": 2}, "a key of format 2, expected 1"),
        (lambda key: {k: v for k, v in key.items() if k != "trials"}, "`trials` is NoneType"),
        (lambda key: key | {"trials": []}, "`trials` is list"),
        (lambda key: key | {"test": None}, "`test` is None"),
        (lambda key: key | {"systems": ["good"]}, "`systems` is "),
        (lambda key: key | {"systems": {"good": 3}}, "the folder of system 'good' is 3"),
        (lambda key: key | {"trials": [*key["trials"], key["trials"][4]]}, "'1-5' stands twice"),
        (lambda key: key | {"trials": [*key["trials"], "x"]}, "question 57 is 'x'"),
        (damaged_trial(kind="taste"), r"question 1 \('1-1'\): `kind` is 'taste'"),
        (damaged_trial(systems=["good", "nobody"]), "`systems` is .*expected 2 of good, poor"),
        (damaged_trial(systems="good"), "`systems` is 'good'"),
        (damaged_trial(check="same"), "`check` is 'same', expected null, first or second"),
        (damaged_trial(item=None), "`item` is None"),
        (damaged_trial(sheet="1"), "`sheet` is '1'"),
        (damaged_trial(trial=["1-1"]), "`trial` is "),
    ],
)  # fmt: skip
def test_a_damaged_key_is_named_before_it_is_used(made, change, said):
    write_answers(made, answers_of(made, "anna", 1, opinion))
    key = json.loads((made / "key.json").read_text())
    (made / "key.json").write_text(json.dumps(change(key)))
    for use in (score_test, lambda folder: open_server(folder, 0)):
        with pytest.raises(DataError, match=rf"key\.json.*{said}"):
            use(made)
    assert not (made / "listening.json").exists()


def test_a_torn_key_or_one_with_a_field_twice_is_named(made):
    text = (made / "key.json").read_text()
    for content, said in ((text[:200], "cannot be read"), ('{"format": 1, ' + text[1:], "'format' occurs twice")):  # fmt: skip
        (made / "key.json").write_text(content)
        with pytest.raises(DataError, match=rf"key\.json.*{said}"):
            score_test(made)


def test_answers_that_contradict_each_other_or_are_missing(made, tmp_path):
    with pytest.raises(DataError, match="no answers"):
        score_test(made)
    first = answers_of(made, "anna", 1, opinion)
    other = first | {"answers": first["answers"][:3] + [first["answers"][3] | {"value": 1}]}
    write_answers(made, first, other)
    with pytest.raises(DataError, match="'anna' answered question .* too"):
        score_test(made)
    shutil.rmtree(made / "answers")
    (tmp_path / "x.json").write_text(json.dumps(answers_of(made, "z", 1, opinion, attention=False)))  # fmt: skip
    with pytest.raises(DataError, match="none of the 1 listeners passed"):
        score_test(made, [tmp_path / "x.json"])
    with pytest.raises(DataError, match="key.json: cannot be read"):
        score_test(tmp_path)


# ------------------------------------------------------------------------------------------ serving


def test_answers_come_in_by_the_server(made):
    server = open_server(made, 0)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"

    def ask(path, data=None, **headers):
        body = None if data is None else json.dumps(data).encode()
        headers = {"Content-Type": "application/json"} | headers if body else headers
        return urllib.request.urlopen(urllib.request.Request(url + path, body, headers), timeout=10).read()  # fmt: skip

    try:
        assert ask("/") == (made / "listen.html").read_bytes()
        assert [json.loads(ask("/sheet"))["sheet"] for _ in range(5)] == [1, 2, 3, 4, 1]
        found = answers_of(made, "../é anna", 1, opinion)
        for _ in range(2):
            ask("/answers", found)
        stored = sorted(path.name for path in (made / "answers").iterdir())
        assert stored == ["1-_anna-2.json", "1-_anna.json"]
        assert len(score_test(made)["listeners"]) == 1
        for path, data, headers in (
            ("/key.json", None, {}),
            ("/answers", {"test": "other"}, {}),
            ("/answers", found, {"Content-Type": "text/plain"}),
            ("/", None, {"Host": "evil.example:80"}),
            ("/answers", {"x": "y" * 1_100_000}, {}),
        ):
            with pytest.raises((urllib.error.HTTPError, urllib.error.URLError, ConnectionError)):
                ask(path, data, **headers)
        assert len(list((made / "answers").iterdir())) == 2
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(ConfigError, match="no listening test in"):
        open_server(made / "answers", 0)


# ------------------------------------------------------------------------------------------ a browser

BROWSER = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)  # fmt: skip
DRIVE = """
<script>{
const wanted = WANTED, out = document.documentElement.dataset;
const click = value => [...document.querySelectorAll("#answers button")].find(b => Number(b.dataset.value) === value).click();
at("name").value = " ";
document.querySelector("form").requestSubmit();
out.unnamed = at("problem").textContent;
at("name").value = "anna"; at("sheet").value = "2";
document.querySelector("form").requestSubmit();
const audio = document.querySelector("audio");
let locked = 0, asked = 0;
while (at("end").hidden && asked < 99) {
  const trial = test.sheets[1][asked++], audios = document.querySelectorAll("audio");
  click(wanted[trial.trial]);
  locked += at("next").disabled && document.querySelectorAll("#answers button:disabled").length > 4;
  audios.forEach((a, i) => { if (i) a.dispatchEvent(new Event("ended")); });
  if (audios.length > 1) locked += document.querySelectorAll("#answers button:disabled").length > 4;
  audios[0].dispatchEvent(new Event("ended"));
  click(wanted[trial.trial]);
  at("next").click();
}
out.locked = locked; out.asked = asked; out.download = at("download").download;
audio.addEventListener("loadedmetadata", () => { out.duration = audio.duration.toFixed(2); });
if (audio.readyState) out.duration = audio.duration.toFixed(2);
}</script></body>
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")
def test_a_listener_fills_the_page_in_and_is_scored(made, tmp_path):
    expected = answers_of(made, "anna", 2, opinion)
    wanted = {answer["trial"]: answer["value"] for answer in expected["answers"]}
    page = tmp_path / "driven.html"
    text = (made / "listen.html").read_text()
    page.write_text(text.replace("</body>", DRIVE.replace("WANTED", json.dumps(wanted))))
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
               "--disable-dev-shm-usage", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND",
               f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=4000", "--dump-dom", page.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    root = re.search(r"<html[^>]*>", done.stdout)
    assert root, done.stderr[-2000:]
    found = {name: html.unescape(value) for name, value in re.findall(r'data-(\w+)="([^"]*)"', root[0])}  # fmt: skip
    assert found["unnamed"].startswith("Your name") and found["asked"] == "14"
    pairs = sum(len(t["systems"]) == 2 for t in json.loads((made / "key.json").read_text())["trials"] if t["sheet"] == 2)  # fmt: skip
    assert int(found["locked"]) == 14 + pairs  # no answer before everything was heard to its end
    assert found["duration"] in ("0.11", "0.13") and found["download"] == "answers-2-anna.json"
    (tmp_path / "answers.json").write_text(found["finished"])
    scores = score_test(made, [tmp_path / "answers.json"])["scores"]
    assert scores["preference"]["pairs"][0]["mean"] == 2.0
    write_answers(made, expected)
    (tmp_path / "answers.json").unlink()
    assert score_test(made)["scores"] == scores
