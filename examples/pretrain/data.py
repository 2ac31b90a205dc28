"""Training data made on the fly: bytes of the Python standard library's own source. Nothing is downloaded."""

import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

CORPUS_BYTES = 4_000_000


def read_corpus() -> Tensor:
    """Return some megabytes of text as bytes, shape (length,), uint8; the same on every rank.

    Raises:
        FileNotFoundError: This Python comes without its library's source.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    text = bytearray()
    for path in sorted(folder.glob("*.py")):
        text += path.read_bytes()
        if len(text) >= CORPUS_BYTES:
            break
    if not text:
        raise FileNotFoundError(f"no *.py in {folder}: point read_corpus() to any other text")
    return torch.frombuffer(text[:CORPUS_BYTES], dtype=torch.uint8)


class StepBatches(IterableDataset[Tensor]):
    """Endless batches, each for one optimizer step, cut from the corpus at random places.

    Args:
        corpus: Text, (length,), uint8.
        size: (micro-batches, sequences, tokens) of a batch.
        seed: Chooses the places; each rank has its own.
        delay_s: Time that every batch takes longer, in s.
    """

    def __init__(self, corpus: Tensor, size: tuple[int, int, int], *, seed: int, delay_s: float) -> None:
        super().__init__()
        self.corpus = corpus
        self.size = size
        self.seed = seed
        self.delay_s = delay_s

    def __iter__(self) -> Iterator[Tensor]:
        """Yield batches of shape ``size``, int64."""
        worker = get_worker_info()
        generator = torch.Generator().manual_seed(1000 * self.seed + (worker.id if worker else 0))
        micro_batches, sequences, tokens = self.size
        within = torch.arange(tokens)
        while True:
            time.sleep(self.delay_s)
            starts = torch.randint(len(self.corpus) - tokens, (micro_batches, sequences, 1), generator=generator)
            yield self.corpus[starts + within].long()


def load_batches(batches: StepBatches, *, workers: int, pinned: bool) -> Iterator[Tensor]:
    """Return the batches, made ahead by worker processes, in pinned memory so that copies need no wait.

    Args:
        batches: What to load.
        workers: Processes; 0 makes each batch only when it is asked for, and the GPU waits.
        pinned: Whether to pin, for a GPU.
    """
    return iter(DataLoader(batches, batch_size=None, num_workers=workers, pin_memory=pinned))
