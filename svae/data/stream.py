"""An endless stream of batches out of reader processes, which can start at any step."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import signal
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from svae.config import LoaderConfig
from svae.data.batches import CropBatch, UtteranceBatch
from svae.data.index import ShardIndex
from svae.data.order import Piece, piece_of, shards_of
from svae.data.shard_source import announced
from svae.errors import DataError

Batch = TypeVar("Batch", CropBatch, UtteranceBatch)

_LOST_BATCHES = 16
"""So many batches in a row of which no sample can be read stop the run at once."""


class BatchStream(Generic[Batch]):
    """An endless iterator of batches; `close()` or leaving its `with` block ends the reader processes.

    Batches lost their unreadable samples; the caller counts `batch.failures` and decides when it is enough. A batch
    is never empty: where all samples are lost, what the next step has in its place stands in, with the lost one's failures.

    Raises:
        DataError: from `next`, where a reader met what it cannot go on with, or died.
    """

    def __init__(self, dataset: PieceDataset, loader: LoaderConfig, pin_memory: bool) -> None:
        workers = loader.num_workers
        self._iterator: Iterator[Any] | None = iter(
            DataLoader(
                dataset,
                batch_size=None,
                num_workers=workers,
                prefetch_factor=max(loader.prefetch, 1) if workers else None,
                collate_fn=_identity,
                worker_init_fn=_start_worker,
                pin_memory=pin_memory,
                # Else every new DataLoader draws from the global generator, and a resumed run differs from an
                # uninterrupted one.
                generator=torch.Generator(),
            )
        )
        # The readers ignore SIGTERM, with which multiprocessing would end them when the interpreter exits.
        atexit.register(_close, weakref.ref(self))

    def __iter__(self) -> BatchStream[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._iterator is None:
            raise StopIteration
        try:
            item = next(self._iterator)
        except (RuntimeError, OSError, EOFError) as error:
            # A bug in a reader arrives as "Caught … in DataLoader worker process" and keeps its traceback. A reader
            # that died shows as DataLoader's own RuntimeError, or as a broken connection while it passed a tensor.
            died = isinstance(error, (OSError, EOFError)) or "DataLoader worker" in str(error)
            if not died or str(error).startswith("Caught"):
                raise
            # DataLoader's handler of SIGCHLD may say it a second time while the readers are being ended.
            with contextlib.suppress(RuntimeError):
                self.close()
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise DataError(
                f"a data reader process died ({reason}). Usually the memory or /dev/shm is full: "
                "lower loader.num_workers or loader.prefetch."
            ) from None
        if isinstance(item, _Stop):
            self.close()
            raise DataError(item.message)
        return item

    def close(self) -> None:
        """End the reader processes. Further `next` calls raise StopIteration."""
        iterator, self._iterator = self._iterator, None
        # Not left to the garbage collector: a traceback may still hold the iterator.
        shut_down = getattr(iterator, "_shutdown_workers", None)
        if shut_down is not None:
            shut_down()

    def __enter__(self) -> BatchStream[Batch]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Share:
    """Which pieces of every step's batch a process computes."""

    rank: int
    world_size: int
    accumulate: int
    """Pieces of a step that it computes one after the other."""

    @property
    def pieces(self) -> int:
        """Return how many pieces all processes together make of a step's batch."""
        return self.world_size * self.accumulate

    def numbers(self) -> list[int]:
        """Return which of them are this process's, in their order."""
        return list(range(self.rank, self.pieces, self.world_size))


@dataclass(eq=False)
class PieceDataset(IterableDataset):
    """In every reader process: its turns of the process's pieces. DataLoader takes them from the readers in turn."""

    index: ShardIndex
    plan: Callable[[int], Iterator[list[list[Any]]]]
    """Yields the parts of every step's batch from a step on, endlessly, without reading anything."""
    read: Callable[[ShardIndex, list[Any]], CropBatch | UtteranceBatch]
    """Reads planned items."""
    start_step: int
    share: Share

    def __iter__(self) -> Iterator[CropBatch | UtteranceBatch | _Stop]:
        worker = get_worker_info()
        # DataLoader asks process 0 first, whichever step comes first.
        turn, turns = (0, 1) if worker is None else (worker.id, worker.num_workers)
        pieces = (
            (step, number, parts)
            for step, parts in enumerate(self.plan(self.start_step), self.start_step)
            for number in self.share.numbers()
        )
        try:
            planned = (
                (step, number, piece_of(parts, number, self.share.pieces))
                for step, number, parts in itertools.islice(pieces, turn, None, turns)
            )
            for step, number, piece in announced(
                planned, lambda turn: shards_of(turn[2]), self.index.need
            ):
                batch = self._read(piece)
                yield batch if batch.keys else self._stand_in(step, number, batch.failures)
        except DataError as error:
            yield _Stop(str(error))

    def _read(self, piece: Piece[Any]) -> CropBatch | UtteranceBatch:
        """Read a piece; `places` of the batch are those of the items that could be read."""
        batch = self.read(self.index, piece.items)
        return replace(batch, places=[piece.places[i] for i in batch.places], weight=piece.weight)

    def _stand_in(self, step: int, number: int, failures: list[str]) -> CropBatch | UtteranceBatch:
        """Return the same piece of the next readable step in place of one that lost all its samples, with its failures.

        It comes again at its own place, with its own failures: what a step gives depends on the step alone.
        """
        for parts in itertools.islice(self.plan(step + 1), _LOST_BATCHES):
            batch = self._read(piece_of(parts, number, self.share.pieces))
            if batch.keys:
                return replace(batch, failures=failures)
        raise DataError(
            f"{_LOST_BATCHES + 1} batches in a row without a single readable utterance. The first one: {failures[0]}"
        )


@dataclass(frozen=True)
class _Stop:
    """Sent by a reader instead of a batch: the message of a DataError, which the parent raises."""

    message: str


def _close(reference: weakref.ref[BatchStream[Any]]) -> None:
    stream = reference()
    if stream is not None:
        stream.close()


def _identity(item: Any) -> Any:
    return item


def _start_worker(_: int) -> None:
    """Leave Ctrl-C, SIGTERM and SIGUSR1 to the training process, which ends its readers when it has saved what it has."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    torch.set_num_threads(1)
