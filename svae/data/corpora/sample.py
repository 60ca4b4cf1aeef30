"""The sample in the package: a list as a user's own."""

from __future__ import annotations

from svae.assets import asset_path
from svae.data.corpora.corpus import Corpus
from svae.data.corpora.jsonl import JsonLines


class EmbeddedSample(JsonLines):
    """Synthetic speech, enough to try everything out in minutes."""

    name = "sample"
    title = "embedded sample"
    folder = asset_path("sample")
    how_to_get = "It is part of the package: the installation is damaged; install svae again."
    layout = "metadata.jsonl and audio/"
    missing = Corpus.missing  # nobody is to write a list of it


CORPORA = (EmbeddedSample(),)
