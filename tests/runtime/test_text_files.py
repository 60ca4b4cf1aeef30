"""Texts are UTF-8 or refused, with the place and the encoding that they look like."""

from __future__ import annotations

import codecs

import pytest

from svae.errors import DataError
from svae.runtime.text_files import check_characters, decode_utf8, likely_encoding, read_utf8

SENTENCES = {
    "cp1252": ["Das Mädchen", "Grüße", "it’s fine", "The café is open", "¿Cómo estás, señor?"],
    "cp1250": ["Zażółć gęślą jaźń, proszę pani."],
    "cp1251": ["Привет, как дела? Сегодня хорошая погода."],
    "koi8_r": ["Привет, как дела? Сегодня хорошая погода."],
    "cp1253": ["Καλημέρα, τι κάνεις σήμερα;"],
    "cp932": ["今日はいい天気ですね。明日も晴れるでしょう。"],
    "gb18030": ["今天天气很好，我们去公园吧。"],
    "cp949": ["안녕하세요 오늘 날씨가 좋네요"],
    "utf_16_le": ["plain ASCII", "Grüße", "Привет"],
    "utf_16_be": ["plain ASCII", "Grüße"],
    "utf_16": ["plain ASCII", "今日はいい天気"],
    "utf_32": ["plain ASCII", "Grüße"],
}


@pytest.mark.parametrize(
    ("encoding", "text"), [(name, text) for name, texts in SENTENCES.items() for text in texts]
)
def test_other_encodings_are_refused_with_their_name_and_how_they_read(encoding, text):
    data = f"a|first|first\nb|{text}|{text}\n".encode(encoding)
    assert likely_encoding(data)[0] == encoding
    with pytest.raises(DataError) as caught:
        decode_utf8(data, "list.csv")
    message = str(caught.value)
    assert (
        message.startswith("list.csv: not UTF-8 at byte ") and f"looks like {encoding}" in message
    )
    assert f"iconv -f {encoding.upper().replace('_', '-')} -t UTF-8" in message
    if not encoding.startswith("utf"):
        assert f"b|{text}"[:50] in message and ", line 2)" in message


@pytest.mark.parametrize(
    ("data", "byte", "line"),
    [
        (b"one\r\ntwo\rthree\xe9", 14, 3),
        (codecs.BOM_UTF8 + b"one\ntwo \xff", 11, 2),
        ("é".encode() + b"\n\xed\xa0\x80", 3, 2),  # half a surrogate pair, as CESU-8 writes it
        ("cut off: €".encode()[:-1], 9, 1),
        (b"two\nzero \0 byte", 9, 2),
    ],
)
def test_the_byte_and_the_line_are_named(data, byte, line):
    with pytest.raises(DataError, match=rf"x: not UTF-8 at byte {byte} \(0x.., line {line}\)"):
        decode_utf8(data, "x")


def test_byte_order_marks_and_line_ends_of_other_systems_are_no_part_of_a_text():
    text = "\ufeffone\r\ntwo\rthree\n\ufefffour\u2028half \x85 and \x0b more\n"
    assert decode_utf8(text.encode(), "x") == (
        "one\ntwo\nthree\nfour\u2028half \x85 and \x0b more\n"
    )


def test_a_file_in_two_encodings_is_not_to_be_converted_as_a_whole():
    data = "ein Mädchen\n".encode() + "zwei Mädchen\n".encode("cp1252")
    with pytest.raises(
        DataError, match=r"line 2\).*cp1252, in which it reads 'zwei Mädchen'"
    ) as caught:
        decode_utf8(data, "x")
    assert "as in other lines" in str(caught.value) and "iconv" not in str(caught.value)


def test_noise_is_refused_without_a_guess_that_cannot_be():
    with pytest.raises(DataError, match="not UTF-8 at byte"):
        decode_utf8(bytes(range(1, 256)) * 3, "noise")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt: No such file"):
        read_utf8(tmp_path / "a.txt")
    with pytest.raises(DataError, match="Is a directory"):
        read_utf8(tmp_path)


@pytest.mark.parametrize("text", ["half \ud83d of it", "\udc80", "a\0b"])
def test_what_utf8_cannot_hold_is_refused_by_name(text):
    check_characters("whole 😀", "field `text`")
    with pytest.raises(DataError, match="field `text` is not valid Unicode: .* at character"):
        check_characters(text, "field `text`")
