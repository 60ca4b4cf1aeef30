"""What a request may hold, with its bounds; anything else is refused by name."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Format = Literal["wav", "flac", "mp3", "opus", "pcm"]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class VoiceId(BaseModel):
    """A voice as newer clients of OpenAI's may name it."""

    model_config = ConfigDict(extra="forbid")
    id: str


class TextRequest(BaseModel):
    """A text and how it is read."""

    model_config = ConfigDict(extra="forbid")
    model: str | None = None
    """One of `GET /v1/models`; None: the first."""
    input: str
    language: str = "en"
    """The text's; numbers and symbols are spelled out in it. none: not at all."""
    lexicon: str | dict[str, str] | None = None
    """Words and how they are said: as in a file of `--lexicon`, or as an object."""
    pauses: Annotated[Finite, Field(ge=0, le=10)] = 1.0
    """Multiplies the pauses that the text asks for; 0 (or false): none."""

    @field_validator("lexicon")
    @classmethod
    def _one_line_each(cls, lexicon: str | dict[str, str] | None) -> str | dict[str, str] | None:
        for word, said in lexicon.items() if isinstance(lexicon, dict) else ():
            if re.search(r"[\t\r\n=]|\s\s", word) or "\n" in said or not said.strip():
                raise ValueError(
                    f"{word[:40]!r}: expected a word and how it is said, each on one line"
                )
        return lexicon

    @property
    def lexicon_text(self) -> str | None:
        """The lexicon as a file has it."""
        if isinstance(self.lexicon, dict):
            return "\n".join(f"{word}\t{said}" for word, said in self.lexicon.items())
        return self.lexicon


class SpeechRequest(TextRequest):
    """`POST /v1/audio/speech`: OpenAI's fields, and svae's own."""

    voice: str | VoiceId | None = None
    """One of `GET /v1/audio/voices`; None: the model's own, else the first."""
    response_format: Format = "mp3"
    speed: Annotated[Finite, Field(ge=0.25, le=4)] = 1.0
    stream: bool | None = None
    """Audio leaves sentence by sentence; the samples are the same. None: yes, but for wav and flac, whose headers say how
    long they are."""
    stream_format: Literal["audio", "sse"] = "audio"
    """sse: as OpenAI's server-sent events."""
    early: bool = False
    """Audio leaves within the first sentence too, as it is decoded; its first second then decides how loud all is."""
    subtitles: Literal["srt", "vtt", "json"] | None = None
    """Words and their times come as events of their own, and all of them as such a file with the last event."""
    instructions: Literal[""] | None = None
    """Only as OpenAI's clients send it where there are none: no model of svae's follows any."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    steps: Annotated[int, Field(ge=1, le=64)] | None = None
    guidance: Annotated[Finite, Field(ge=0, le=20)] | None = None
    temperature: Annotated[Finite, Field(ge=0, le=2)] | None = None

    @model_validator(mode="after")
    def _only_what_streams(self) -> SpeechRequest:
        if self.stream is False and self.stream_format == "sse":
            raise ValueError(
                'stream_format: events are a stream; ask for "stream": true, or leave one of the two out'
            )
        if self.early and not self.streams:
            raise ValueError('early: only what is streamed leaves early; ask for "stream": true')
        if self.subtitles is not None and self.stream_format != "sse":
            raise ValueError(
                'subtitles: they come as events; ask for them with "stream_format": "sse"'
            )
        return self

    @property
    def voice_name(self) -> str | None:
        """The name of the voice."""
        return self.voice.id if isinstance(self.voice, VoiceId) else self.voice

    @property
    def streams(self) -> bool:
        """Whether audio leaves before all of it is there."""
        if self.stream is not None:
            return self.stream
        return self.stream_format == "sse" or self.response_format not in ("wav", "flac")
