"""report.html: self-contained, safe against any text, and working in a real browser (skipped where there is none)."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest
import soundfile
import torch
from markupsafe import escape

from svae.evaluation.items import Item
from svae.evaluation.recordings import recording_from_file
from svae.evaluation.report.charts import length_chart, speaker_chart
from svae.evaluation.report.page import align, mel_png, write_page
from svae.evaluation.rows import Row, summarize
from svae.judges.wer import f5_english

ATTACK = '</script><script>document.title="pwned"</script><img src=x onerror="document.title=1">&amp;\u2028@data@'


def entry(wer, hypothesis, **more):
    errors = round(4 * wer)
    counts = {"substitutions": errors, "deletions": 0, "insertions": 0, "words": 4}
    return (
        {"audio": "x", "seconds": 1.0, "hypothesis": hypothesis, "wer": wer, "sim_ecapa": 0.5}
        | counts
        | more
    )


@pytest.fixture
def results(tmp_path):
    """Three utterances, one perfect, one wrong in a word, one hostile; the last's recording is missing."""
    for name in ("a", "b", "p"):
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * torch.randn(8000).numpy(), 16000)
    texts = ["one two three four", "five six seven eight", f"nine ten {ATTACK} twelve"]
    heard = ["one two three four", "five sick seven eight", ATTACK]
    rates = [0.0, 0.25, 1.0]
    prompt = recording_from_file(tmp_path / "p.wav")
    items, rows, made = [], [], {}
    for i, name in enumerate("abc"):
        items.append(Item(name, texts[i], prompt, "prompt", None, ["s<1>", "s2", "s2"][i]))
        made[name] = recording_from_file(tmp_path / f"{name}.wav")
        row = {
            "id": name,
            "speaker": items[i].speaker,
            "text": texts[i],
            "prompt": "p",
            "prompt_text": "prompt",
        }
        more = {"error": "no such file"} if name == "c" else {}
        rows.append(
            Row.from_json(row | {"recordings": {"wavs": entry(rates[i], heard[i], **more)}})
        )
    metrics = {
        "system_name": f"sys {ATTACK}", "task": "wavs", "headline": "wer", "system_recordings": ["wavs"],
        "protocol": {"name": "mine", "label": "mine", "normalizer": "f5-en", "modified": ["x"], "source": ATTACK},
        "judges": {"asr": {"asr": "fake", "model": ATTACK}}, "list": {"list": ATTACK, "sha256": "0", "utterances": 3},
        "system": summarize(rows, ["wavs"]), "originals": None, "others": {}, "settings": {"wavs": ATTACK},
        "intervals": {"confidence": 0.95, "method": "m", "unit": "utterance", "resamples": 9}, "notes": [ATTACK],
        "environment": {"svae": "1", "packages": {"torch": ATTACK}},
    }  # fmt: skip

    def write(megabytes=5):
        write_page(tmp_path, metrics, rows, items, {"wavs": made}, f5_english, megabytes=megabytes)
        return tmp_path / "report.html"

    return write


def stored(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])["rows"]


def test_the_page_asks_no_network_and_holds_its_audio(results):
    text = results().read_text()
    assert not re.search(
        r"""(?:src|href|action)\s*=\s*["']?\s*(?:https?:)?//|url\(|@import|fetch\(|XMLHttp""", text
    )
    assert (
        "default-src 'none'" in text
        and "data:audio/flac;base64," in text
        and "data:image/png;base64," in text
    )


def test_no_text_becomes_markup(results):
    text = results().read_text()
    assert "<img" not in text and 'document.title="pwned"</script>' not in text
    assert (
        text.count("<script") == text.count("</script>") == 2 + 3
    )  # data, code, and the media of three utterances
    assert str(escape(ATTACK)) in text


def test_the_worst_comes_first_with_what_was_said_and_heard(results):
    rows = stored(results().read_text())
    assert [row["id"] for row in rows] == ["c", "b", "a"]
    assert rows[0]["recordings"][0]["error"] == "no such file" and rows[0]["text"].endswith(
        "twelve"
    )
    assert rows[1]["recordings"][0]["words"] == [
        ["=", "five", "five"], ["s", "six", "sick"], ["=", "seven", "seven"], ["=", "eight", "eight"]
    ]  # fmt: skip


def test_beyond_the_limit_recordings_are_linked_relative_to_the_page(results):
    text = results(megabytes=0).read_text()
    assert "base64" not in text
    assert [row["recordings"][0]["link"] for row in stored(text)] == ["c.wav", "b.wav", "a.wav"]


def test_words_are_aligned_as_they_were_counted():
    assert align("The cat, sat.", "a cat sat down", f5_english) == [
        ["s", "the", "a"], ["=", "cat", "cat"], ["=", "sat", "sat"], ["i", "", "down"]
    ]  # fmt: skip
    assert align("The cat sat", "", f5_english) == [
        ["d", word, ""] for word in ("the", "cat", "sat")
    ]
    assert align("?!", "word", f5_english) is None


def test_charts_are_drawn_for_any_number_of_points():
    assert length_chart({}) == "" and speaker_chart({"only": (0.5, None)}) == ""
    for count in (1, 5, 40):
        drawn = length_chart(
            {"system": [(1.0 + i, 0.1 * i) for i in range(count)], "original": [(1.0, 0.0)]}
        )
        assert drawn.count("<circle") == count + 1 and "nan" not in drawn and "inf" not in drawn
    assert "<polyline" in drawn
    bars = speaker_chart({f"<s{i}>": (0.01 * i, 0.0) for i in range(30)})
    assert "the worst 24 of 30" in bars and "<s29>" not in bars and "&lt;s29&gt;" in bars


def test_a_mel_picture_is_small_and_wide_enough():
    png = mel_png(0.1 * torch.sin(torch.arange(16000 * 20) / 5), 16000)
    assert png.startswith(b"\x89PNG") and len(png) < 60_000
    assert int.from_bytes(png[16:20], "big") <= 600 and int.from_bytes(png[20:24], "big") == 80
    assert mel_png(torch.zeros(10), 16000).startswith(b"\x89PNG")


BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
STEPS = """
<script>{
const out = document.documentElement.dataset;
const ids = () => [...document.querySelectorAll("tr.row")].map(row => row.dataset.id).join("");
const set = (id, value) => {
  const node = document.getElementById(id);
  if (typeof value === "boolean") node.checked = value; else node.value = value;
  node.dispatchEvent(new Event("input"));
};
const opened = document.querySelectorAll("tr.row.open");
out.opened = [...opened].map(row => row.dataset.id).join("") + opened[0].nextSibling.querySelectorAll("audio").length;
out.first = ids();
document.querySelector('th[data-key="id"] button').click(); out.byId = ids();
document.querySelector('th[data-key="id"] button').click(); out.byIdDown = ids();
document.querySelector('th[data-key="wer"] button').click();
set("wrong", true); out.wrong = ids(); set("wrong", false);
set("search", "SICK"); out.found = ids(); set("search", "");
set("speaker", "s2"); out.speaker = ids(); out.speakers = document.getElementById("speaker").options.length;
const row = [...document.querySelectorAll("tr.row")].find(row => row.dataset.id === "b");
row.click();
const detail = row.nextSibling;
out.words = detail.querySelector(".words").textContent.trim();
out.colored = detail.querySelectorAll(".words .s").length;
out.players = detail.querySelectorAll("audio").length;
out.pictures = detail.querySelectorAll("img").length;
out.overflow = document.documentElement.scrollWidth > window.innerWidth;
const audio = detail.querySelectorAll("audio")[1];
const tell = seconds => { out.seconds = seconds; out.title = document.title; parent.postMessage({ ...out }, "*"); };
audio.addEventListener("loadedmetadata", () => tell(audio.duration.toFixed(2)));
audio.addEventListener("error", () => tell("error"));
}</script></body>
"""
FRAME = """<!doctype html><meta charset="utf-8"><body><script>
addEventListener("message", event => { document.body.textContent = "FOUND" + JSON.stringify(event.data) + "END"; });
</script><iframe src="driven.html" width="WIDTH" height="900"></iframe>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_works_in_a_browser(results, tmp_path, width):
    (tmp_path / "driven.html").write_text(
        results().read_text().replace("</body>", STEPS), encoding="utf-8"
    )
    page = tmp_path / "frame.html"  # a window has a least width, a frame has none
    page.write_text(FRAME.replace("WIDTH", str(width)), encoding="utf-8")
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
               "--disable-dev-shm-usage", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND",
               f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,950", "--autoplay-policy=no-user-gesture-required",
               "--virtual-time-budget=4000", "--dump-dom", page.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    answer = re.search(r"FOUND(.*?)END", done.stdout, re.DOTALL)
    assert answer, done.stdout[-500:] + done.stderr[-2000:]
    found = json.loads(html.unescape(answer[1]))
    assert found["ready"] == "3" and found["title"] == f"Evaluation: sys {ATTACK}"
    assert found["opened"] == "b2"  # the worst one that could be made, and its original
    assert (found["first"], found["byId"], found["byIdDown"]) == ("cba", "abc", "cba")
    assert (found["wrong"], found["found"], found["speaker"], found["speakers"]) == (
        "cb",
        "b",
        "cb",
        "3",
    )
    assert (
        found["words"].split() == ["five", "sixsick", "seven", "eight"] and found["colored"] == "1"
    )
    assert (found["players"], found["pictures"], found["overflow"]) == ("2", "2", "false")
    assert found["seconds"] == "0.50"
