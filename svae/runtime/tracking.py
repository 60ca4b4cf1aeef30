"""What a run leaves for a person: metrics.jsonl, TensorBoard if installed, audio samples, pictures, environment.json."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from torch import Tensor

from svae.audio import log_mel, save_audio
from svae.runtime.files import file_stem, write_text


class Tracker:
    """Appends rows to metrics.jsonl and mirrors numbers to TensorBoard where that is installed.

    Args:
        run: the run folder.
        step: rows after this step belong to a continuation that was lost, and are dropped; None: so do all.
        enabled: False on ranks that do not write.
        note: is told what could not be written; a log that fails does not end a run.
    """

    def __init__(
        self,
        run: Path,
        *,
        step: int | None,
        enabled: bool = True,
        note: Callable[[str], None] = print,
    ) -> None:
        self.run = run
        self._note = note
        self._session = round(time.time(), 3)
        self._step = -1 if step is None else step
        self._waits = enabled
        self._file: TextIO | None = None
        self._board: Any = None

    def begin(self) -> None:
        """Drop the rows of a lost continuation, and open the files; only once. What is written first does it, too.

        Not before the run has checked everything: a resumption that is refused must leave the rows as they are.
        """
        if not self._waits:
            return
        self._waits = False
        self._drop_rows_after(self._step)
        self._file = (self.run / "metrics.jsonl").open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.run / "tensorboard"), purge_step=self._step + 1)
        except ImportError:  # not installed, which is nobody's mistake
            return
        except Exception as error:  # installed and broken: versions that do not fit raise anything
            self._give_up_board(error)

    def _drop_rows_after(self, step: int) -> None:
        rows = stored_rows(self.run)
        kept = [row for row in rows if _row_step(row) <= step]
        if len(kept) != len(rows):
            write_text(self.run / "metrics.jsonl", "".join(f"{row}\n" for row in kept))

    def log(self, step: int, split: str, values: dict[str, float]) -> None:
        """Write one row: `step`, `split` (train, validation or synthesis), `time`, `session`, and the values.

        Both times are seconds since the epoch; `session` is when this process began, so that a run that was resumed has
        several, and its hours can be told from the pauses between them.
        """
        self.begin()
        if self._file is None:
            return
        self._append(self._row(step, split) | values)
        for name, value in values.items():
            self._on_board("add_scalar", f"{split}/{name}", value, step)

    def changes(self, step: int, changes: dict[str, dict[str, Any]]) -> None:
        """Write what a resumed run has otherwise from a step on, as a row of the split `recipe`."""
        self.begin()
        if self._file is not None:
            self._append(self._row(step, "recipe") | {"changes": changes})

    def _row(self, step: int, split: str) -> dict[str, Any]:
        now = round(time.time(), 3)
        return {"step": step, "split": split, "time": now, "session": self._session}

    def _append(self, row: dict[str, Any]) -> None:
        """Write a row; one that finds no room stays in the buffer and is written with the next."""
        assert self._file is not None
        try:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        except OSError as error:
            self._note(f"{self.run / 'metrics.jsonl'}: cannot be written: {error.strerror}")

    def _on_board(self, method: str, *args: Any, **options: Any) -> None:
        """Call a method of TensorBoard's writer, where there is one; give it up where that fails."""
        if self._board is not None:
            try:
                getattr(self._board, method)(*args, **options)
            except Exception as error:  # a full disk, or a board that does not fit its libraries
                self._give_up_board(error)

    def _give_up_board(self, error: Exception) -> None:
        self._board = None
        self._note(
            f"TensorBoard is left out, metrics.jsonl has all rows: {type(error).__name__}: {error}"
        )

    def audio(
        self,
        step: int,
        name: str,
        waveform: Tensor,
        sample_rate: int,
        save: Callable[[Path, Tensor, int], None] = save_audio,
    ) -> None:
        """Write `samples/step-…/name.wav`; waveform (1, S). `save` is another function for new speech, which has tags."""
        self.begin()
        if self._file is None:
            return
        waveform = waveform.detach().cpu()
        save(self._sample_path(step, f"{name}.wav"), waveform, sample_rate)
        self._on_board("add_audio", name, waveform, step, sample_rate=sample_rate)

    def mel_picture(self, step: int, name: str, rows: dict[str, Tensor], sample_rate: int) -> None:
        """Write `samples/step-…/name.png`: the log-mel of each waveform (1, S), one above the other, on one scale."""
        self.begin()
        if self._file is not None:
            draw_mels(self._sample_path(step, f"{name}.png"), rows, sample_rate)

    def _sample_path(self, step: int, name: str) -> Path:
        folder = self.run / "samples" / f"step-{step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        stem, _, suffix = name.rpartition(".")
        return folder / f"{file_stem(stem)}.{suffix}"

    def close(self) -> None:
        """Flush and close the files."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._note(f"{self.run / 'metrics.jsonl'}: cannot be written: {error.strerror}")
        self._on_board("close")


def stored_rows(run: Path) -> list[str]:
    """Return the rows of a run's metrics.jsonl as they are written; none where there is no such file."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    return [row for row in path.read_text(encoding="utf-8").split("\n") if row]


def _row_step(row: str) -> float:
    try:
        return json.loads(row)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")  # the torn last line of a killed run


def draw_mels(path: Path, rows: dict[str, Tensor], sample_rate: int) -> None:
    """Draw the log-mel spectrogram of each named waveform (1, S), stacked, with a common time axis and colour scale."""
    from matplotlib.figure import Figure

    mels = {
        n: log_mel(w.detach().cpu().float(), sample_rate=sample_rate).squeeze(0).numpy()
        for n, w in rows.items()
    }
    seconds = max(w.shape[-1] for w in rows.values()) / sample_rate
    low, high = min(m.min() for m in mels.values()), max(m.max() for m in mels.values())
    figure = Figure(figsize=(9, 2.2 * len(mels)), layout="constrained")
    axes = figure.subplots(len(mels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, mel) in zip(axes, mels.items(), strict=True):
        extent = (0, rows[name].shape[-1] / sample_rate, 0, mel.shape[0])
        axis.imshow(
            mel, origin="lower", aspect="auto", extent=extent, vmin=low, vmax=high, cmap="magma"
        )
        axis.set_title(name, loc="left", fontsize=10)
        axis.set_ylabel("mel bin")
    axes[-1].set_xlim(0, seconds)
    axes[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=110)
