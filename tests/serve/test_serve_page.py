"""The page of `svae serve`: self-contained, and working in a real browser (skipped where there is none)."""

from __future__ import annotations

import io
import re
import subprocess

import httpx
import numpy as np
import pytest
import soundfile
from browser import BROWSER, open_browser
from tiny_tts import PROMPT_TEXT

from svae.synthesis.voices import saved_voices

TEXT = "Hello there, it's me. Here we go on."


def test_the_page_is_one_file_and_asks_nothing_of_others(server):
    answer = httpx.get(server.url)
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(
        r"""(?:src|href|action)\s*=\s*["']|\burl\(|@import|https?://""",
        answer.text.replace('href="data:,"', ""),
    )


@pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")
def test_the_page_works_in_a_browser(server, recording, tmp_path):
    microphone = tmp_path / "microphone.wav"
    soundfile.write(microphone, soundfile.read(recording)[0], 16000, subtype="PCM_16")
    with open_browser(tmp_path / "profile", microphone) as browser:
        metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        browser.call("Emulation.setDeviceMetricsOverride", **metrics)
        browser.call("Page.navigate", url=server.url)
        browser.wait("document.documentElement?.dataset.ready === 'yes'")
        assert browser.run("$('voice').options.length") == 4
        _speak(browser)
        _compare(browser)
        _check_curl(browser)
        _record(browser)
        _drop(browser, recording)
        assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
        browser.call("Emulation.clearDeviceMetricsOverride")
        assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")


def _speak(browser):
    browser.run(
        f"$('voice').value = 'anna'; $('text').value = {TEXT!r}; $('seed').value = 3; $('speak').click()"
    )
    browser.wait("document.documentElement.dataset.spoken")
    assert browser.run("document.documentElement.dataset.spoken") == "yes", browser.run(
        "$('note').textContent"
    )
    assert browser.run("[...$('spelled').children].map(row => row.textContent).join('|')") == (
        "Hello there, it's me.|Here we go on."
    )
    browser.wait("$('takeA').querySelector('audio').duration > 0.2")
    assert browser.run(
        "(c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size)($('takeA').querySelector('canvas'))"
    ) > 50  # fmt: skip
    assert "anna, seed 3, speed 1" in browser.run("$('takeA').innerText")
    assert browser.run("$('takeB').hidden && $('swap').hidden")


def _compare(browser):
    browser.run(
        "$('speed').value = 1.5; $('speed').oninput(); $('dice').click(); $('speak').click()"
    )
    browser.wait("document.documentElement.dataset.spoken && !$('takeB').hidden")
    assert "speed 1.5" in browser.run("$('takeA').innerText")
    assert "seed 3, speed 1" in browser.run("$('takeB').innerText")
    browser.wait(
        "$('takeB').querySelector('audio').duration > $('takeA').querySelector('audio').duration"
    )
    assert browser.run("$('swap').hidden") is False
    link = "$('takeA').querySelector('a')"
    assert browser.run(f"{link}.href").startswith("blob:")
    assert re.fullmatch(r"anna-\d+\.wav", browser.run(f"{link}.download"))
    _switch(browser)


def _switch(browser):
    """One take plays on where the other one stopped."""
    playing = "[...document.querySelectorAll('.takes audio')].map(audio => !audio.paused)"
    browser.run("[...document.querySelectorAll('.takes audio')].forEach(a => a.loop = true)")
    browser.run("$('swap').click()")
    first = browser.run(playing)
    browser.run("$('swap').click()")
    second = browser.run(playing)
    assert sorted(first) == sorted(second) == [False, True] and first != second
    browser.run("[...document.querySelectorAll('.takes audio')].forEach(a => a.pause())")


def _check_curl(browser):
    """Copy the line that the page shows, and run it: it gives the take, to the sample."""
    browser.run(
        "Object.defineProperty(navigator, 'clipboard', { value: { writeText: text => { window.copied = text; } } }); $('copy').click()"
    )
    browser.wait("$('copy').textContent === 'Copied'")
    line = browser.run("window.copied")
    assert line == browser.run("$('curl').textContent")
    line = line.replace("-o speech.wav", "-s -o -")
    made = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60, check=True).stdout
    taken = browser.run("newest.blob.arrayBuffer().then(b => [...new Uint8Array(b)])")
    a, b = (soundfile.read(io.BytesIO(data), dtype="int16")[0] for data in (made, bytes(taken)))
    assert np.array_equal(a, b) and len(a) > 3000


def _record(browser):
    browser.run("document.querySelector('details').open = true; $('record').click()")
    browser.wait("$('record').textContent === 'Stop'")
    browser.run("new Promise(done => setTimeout(done, 1500))")
    browser.run("$('record').click()")
    browser.wait("!$('save').disabled")
    browser.run(f"$('name').value = 'me'; $('said').value = {PROMPT_TEXT!r}; $('save').click()")
    browser.wait("$('voice').value === 'me' || $('note').classList.contains('bad')")
    assert browser.run("$('voice').value") == "me", browser.run("$('note').textContent")
    assert "me" in saved_voices()
    browser.run("window.confirm = () => true; $('remove').click()")
    browser.wait("$('note').textContent.includes('deleted')")
    assert "me" not in saved_voices() and browser.run("$('remove').disabled")


def _drop(browser, recording):
    _drop_file(browser, b"no audio", "song.txt")
    browser.wait("$('note').classList.contains('bad')")
    assert "song.txt: cannot be read as audio" in browser.run("$('note').textContent")
    _drop_file(browser, recording.read_bytes(), "anna.flac")
    browser.wait("$('voice').value === 'me' && !$('note').classList.contains('bad')")
    assert "me" in saved_voices()
    browser.run("$('remove').click()")
    browser.wait("$('note').textContent.includes('deleted')")


def _drop_file(browser, content, name):
    """Drop a file on the page, and save it as the voice that the form still names."""
    browser.run(f"""{{
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array({list(content)})], "{name}"));
        $("drop").dispatchEvent(new DragEvent("drop", {{ dataTransfer: data, bubbles: true, cancelable: true }}));
        $("save").click();
    }}""")
