"""Why segments are left out, one reason at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from svae.recordings.filters import Judged, Limits, reasons
from svae.recordings.segments import Segment

GOOD = Judged(
    Segment("k", "a.wav", "a", "0", 0.0, 3.0, 2.6, 0.0, 30.0), "Good morning to all of you.", "heard", "Good morning to all of you."
)  # fmt: skip


def segment(**changes):
    return replace(GOOD, segment=replace(GOOD.segment, **changes))


@pytest.mark.parametrize(
    ("judged", "reason"),
    [
        (segment(end=0.4, speech_seconds=1.5), "too short"),
        (segment(end=21.0), "too long"),
        (segment(clipped=0.002), "clipped"),
        (segment(snr_db=14.0), "noisy"),
        (segment(speech_seconds=0.4), "length of text"),
        (segment(speech_seconds=20.0), "length of text"),
        (replace(GOOD, text=None), "not in its text"),
        (replace(GOOD, text=""), "no words"),
        (replace(GOOD, text="... -"), "no words"),
        (replace(segment(speech_seconds=20.0), text="thank you " * 30), "repeats itself"),
        (replace(GOOD, agreement=0.49), "heard otherwise"),
        (replace(GOOD, fit=-36.0), "does not fit the sound"),
        (replace(GOOD, unfit="0 words found"), "does not fit the sound"),
        (replace(GOOD, distillmos=2.9), "distillmos"),
        (
            replace(
                segment(speech_seconds=3.2),
                text="555-1234.",
                spoken="five five five, one two three four.",
            ),
            None,
        ),
        (replace(segment(speech_seconds=3.2), text="42", spoken="forty two"), "length of text"),
        (replace(segment(speech_seconds=3.2), text="Um 9"), None),
        (
            replace(segment(speech_seconds=0.5), text="Zwischen 1984 und 1989 war es anders"),
            "length of text",
        ),
        (replace(GOOD, text="今天天气很好"), None),
        (
            replace(
                GOOD, text="今天天气很好我们去公园玩吧那里有许多人在唱歌跳舞放风筝也有孩子在追跑"
            ),
            "length of text",
        ),
        (replace(GOOD, agreement=0.5, fit=-35.0, distillmos=3.0), None),
    ],
)
def test_one_reason_at_a_time(judged, reason):
    found = reasons(judged, Limits(min_distillmos=3.0))
    assert [each for each, _ in found] == ([] if reason is None else [reason])
    assert all(detail for _, detail in found)


def test_what_a_person_wrote_is_not_doubted():
    judged = replace(segment(snr_db=3.0), text="Mm.", text_from="review", fit=-90.0)
    assert [reason for reason, _ in reasons(judged, Limits())] == ["noisy"]
