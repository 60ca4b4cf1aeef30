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
from svae.data.index import Sample, ShardIndex
from svae.data.order import SlotOrder, position_of, shards_of_batch
from svae.data.shard_source import announced
from svae.errors import DataError

Batch = TypeVar("Batch", CropBatch, UtteranceBatch)

_LOST_BATCHES = 16
"""So many batches in a row of which no sample can be read stop the run at once."""


class BatchStream(Generic[Batch]):
    """An endless iterator of batches; `close()` or leaving its `with` block ends the reader processes.

    Batches lost their unreadable samples; the caller counts `batch.failures` and decides when it is enough. A batch
    is never empty: where all samples are lost, the slot's next batch stands in, with the lost one's failures.

    Raises:
        DataError: from `next`, where a reader met what it cannot go on with, or died.
    """

    def __init__(self, dataset: SlotDataset, loader: LoaderConfig, pin_memory: bool) -> None:
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


@dataclass(eq=False)
class SlotDataset(IterableDataset):
    """In every reader process: the batches of its slot. DataLoader takes them from the processes in turn."""

    index: ShardIndex
    samples: list[Sample]
    plan: Callable[..., Iterator[list[Any]]]
    """Yields the planned batches of a `SlotOrder` from batch `start` on, endlessly, without reading anything."""
    read: Callable[[ShardIndex, list[Any]], CropBatch | UtteranceBatch]
    """Reads a planned batch."""
    seed: int
    start_step: int
    rank: int
    world_size: int
    loader: LoaderConfig

    def __iter__(self) -> Iterator[CropBatch | UtteranceBatch | _Stop]:
        worker = get_worker_info()
        workers = max(self.loader.num_workers, 1)
        # DataLoader asks process 0 first, whichever step comes first: the processes take the readers' places in turn.
        step = self.start_step + (worker.id if worker is not None else 0)
        position = position_of(step, rank=self.rank, num_workers=workers)
        order = SlotOrder(
            self.samples,
            seed=self.seed,
            slot=position.slot,
            slots=self.world_size * workers,
            shuffle_shards=self.loader.shuffle_shards,
        )
        try:
            plan = announced(
                self.plan(order, start=position.batch), shards_of_batch, self.index.need
            )
            for number, planned in enumerate(plan, position.batch):
                batch = self.read(self.index, planned)
                yield batch if batch.keys else self._stand_in(order, number, batch.failures)
        except DataError as error:
            yield _Stop(str(error))

    def _stand_in(
        self, order: SlotOrder, number: int, failures: list[str]
    ) -> CropBatch | UtteranceBatch:
        """Return the next readable batch in place of one that lost all its samples, with the lost one's failures.

        The batch comes again at its own place, with its own failures: what a step gives depends on the step alone.
        """
        for planned in itertools.islice(self.plan(order, start=number + 1), _LOST_BATCHES):
            batch = self.read(self.index, planned)
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
