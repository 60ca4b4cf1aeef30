"""Cut manifests of lhotse, which has recipes for some hundred corpora: what is cut from which recording, and what is said there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from svae.data.corpora.corpus import Corpus, Utterance, sanitize_key
from svae.errors import ConfigError, DataError
from svae.runtime.text_files import check_characters

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")


class Lhotse(Corpus):
    """Whatever lhotse has a manifest of, in any language."""

    name = "lhotse"
    title = "a cut manifest of lhotse (extra: lhotse)"
    folder: Path | None = None
    how_to_get = (
        "`lhotse prepare CORPUS …` makes recordings and supervisions of a corpus, "
        "`lhotse cut simple -r RECORDINGS -s SUPERVISIONS cuts.jsonl.gz` cuts of them."
    )
    layout = f"cuts as {', '.join(SUFFIXES)}; recordings are files"
    argument = "CUTS"

    def utterances(self, root: Path, subsets: Sequence[str]) -> list[Utterance]:
        """List the cuts; one with several supervisions as one utterance for each of them."""
        try:
            from lhotse import CutSet
            from lhotse.serialization import load_manifest_lazy_or_eager
        except ModuleNotFoundError:
            raise ConfigError(
                "svae prepare lhotse takes the package lhotse: pip install 'svae[lhotse]'."
            ) from None
        if not root.is_file() or not root.name.endswith(SUFFIXES):
            problem = "no such file" if not root.exists() else "no manifest by its name"
            raise self.missing(root, problem)
        try:
            cuts = load_manifest_lazy_or_eager(root)
            if cuts is not None and not isinstance(cuts, CutSet):
                raise self.missing(root, f"a {type(cuts).__name__}, which has no cuts")
            rows = [] if cuts is None else list(cuts)
        except (DataError, KeyboardInterrupt):
            raise
        except Exception as error:  # of json, gzip and lhotse, according to what is wrong
            reason = f"{type(error).__name__}: {error}"[:300]
            raise self.missing(root, f"it cannot be read ({reason})") from error
        return _told_apart(
            [
                utterance
                for number, cut in enumerate(rows, 1)
                for utterance in _utterances(cut, root, f"{root}, cut {number} ({cut.id})")
            ]
        )

    def missing(self, root: Path, what: str) -> DataError:
        """Return the error of a manifest that is not there, or is none of cuts."""
        return DataError(f"{root}: {what}. Expected {self.layout}.\n{self.how_to_get}")


def _utterances(cut: Any, manifest: Path, place: str) -> Iterator[Utterance]:
    recording = _recording(cut, place)
    supervisions = list(cut.supervisions)
    several = len(supervisions) > 1
    for supervision in supervisions or [None]:
        offset, duration = float(cut.start), float(cut.duration)
        if several:  # as lhotse's trim_to_supervisions does
            begin = max(float(supervision.start), 0.0)
            duration = min(float(supervision.end), duration) - begin
            offset += begin
        if duration <= 0:
            raise DataError(
                f"{place}: supervision {supervision.id} lies outside the cut. Mend the manifest."
            )
        whole = offset == 0 and abs(duration - recording.duration) * recording.sampling_rate < 1
        name = supervision.id if several else cut.id
        audio, channel = _file(recording, cut, supervision if several else None, manifest, place)
        text = getattr(supervision, "text", None)
        check_characters(text or "", f"{place}: text")
        yield Utterance(
            key=sanitize_key(name),
            audio=audio,
            text=text,
            speaker=getattr(supervision, "speaker", None) or "unknown",
            language=getattr(supervision, "language", None) or "unknown",
            source=audio.name,
            place=place,
            offset=offset,
            duration=None if whole else duration,
            channel=channel,
        )


def _told_apart(utterances: list[Utterance]) -> list[Utterance]:
    """Name recordings by their paths below the folder of all, where parts of different files would pass for the same one.

    Elsewhere the names of their files stay, also where several have one name: folders of shards were begun with them.
    """
    paths = {utterance.audio: os.path.abspath(utterance.audio) for utterance in utterances}
    first: dict[str, str] = {}
    if all(first.setdefault(u.identity, paths[u.audio]) == paths[u.audio] for u in utterances):
        return utterances
    folder = os.path.commonpath([os.path.dirname(path) for path in paths.values()])
    return [
        replace(u, source=Path(paths[u.audio]).relative_to(folder).as_posix()) for u in utterances
    ]


def _recording(cut: Any, place: str) -> Any:
    """Return what a cut is cut from. Raises DataError where that is no recording as it was made."""
    recording = getattr(cut, "recording", None)
    if recording is None:
        raise DataError(
            f"{place}: a {type(cut).__name__} without one recording: mixed, padding or features only. Expected cuts of "
            "recordings; save its audio first (CutSet.save_audios)."
        )
    if recording.transforms:
        raise DataError(
            f"{place}: its recording {recording.id} is to be changed ({str(recording.transforms[0])[:80]}). Expected it as "
            "it was made; save its audio first (CutSet.save_audios)."
        )
    return recording


def _file(
    recording: Any, cut: Any, supervision: Any, manifest: Path, place: str
) -> tuple[Path, int | None]:
    """Return the file of a recording, and which of its channels is meant; None: all of them."""
    wanted = cut.channel if supervision is None else supervision.channel
    channels = [wanted] if isinstance(wanted, int) else list(wanted)
    sources = [s for s in recording.sources if set(channels) <= set(s.channels)]
    if not sources:
        raise DataError(
            f"{place}: no file of its recording {recording.id} has channel {channels}. Expected one file."
        )
    source = sources[0]
    if source.type != "file":
        raise DataError(
            f"{place}: its recording {recording.id} is no file but a {source.type}, which svae does not open. "
            "Save the audio first (CutSet.save_audios)."
        )
    path = Path(source.source)
    if not path.is_absolute() and not path.exists():  # lhotse's own are from the current folder
        path = manifest.parent / path
    if len(source.channels) == len(channels):
        return path, None
    if len(channels) > 1:
        raise DataError(
            f"{place}: means {len(channels)} of {len(source.channels)} channels. Expected one, or all."
        )
    return path, source.channels.index(channels[0])


CORPORA = (Lhotse(),)
