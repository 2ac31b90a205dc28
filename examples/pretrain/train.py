"""Pre-train a small GPT, on a GPU or a CPU, in one process or under torchrun.

    python train.py                                        # some seconds of a tiny model, or of 124M on a GPU
    torchrun --standalone --nproc-per-node 4 train.py      # data-parallel, one process per GPU
    satscore -- python train.py --minutes 3                # and how full was the GPU?

It does by default what a training loop should do; the switches under 'mistakes' break one thing each.
"""

import argparse
import contextlib
import os
import time
from dataclasses import dataclass

import torch
import torch.distributed as dist
from data import StepBatches, load_batches, read_corpus
from mistakes import exchange_one_by_one, log_synchronously
from model import GPT, SHAPES, optimizer_for
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel

try:
    import satscore
except ImportError:  # only what it would have said of itself is missing then
    satscore = None

REPORT_S = 2.0
"""Reading the loss waits for the GPU: about this often is enough."""
WARMUP_STEPS = 10
DEFAULT_MINUTES = 0.4
# model: sequences per micro-batch, micro-batches per step, learning rate. With 124M a step is 0.26 M tokens.
BATCHES = {"tiny": (8, 2, 3e-3), "124M": (8, 32, 6e-4), "350M": (8, 32, 3e-4)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which process of the job this is, as torchrun says, and where it computes."""

    rank: int
    world: int
    device: torch.device


def find_place() -> Place:
    """Return this process's place, and open the process group where there are several."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if world > 1:
        # gloo beside nccl: the ranks agree on the end of training without waiting for their GPUs.
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    return Place(rank=int(os.environ.get("RANK", "0")), world=world, device=device)


class Trainer:
    """Model, optimizer and one training step.

    Args:
        options: The command line.
        place: This process.
    """

    def __init__(self, options: argparse.Namespace, place: Place) -> None:
        self.options = options
        self.place = place
        self.on_gpu = place.device.type == "cuda"
        torch.manual_seed(options.seed)  # the same weights on every rank
        self.gpt = GPT(SHAPES[options.model]).to(place.device)
        self.optimizer = optimizer_for(self.gpt, options.learning_rate, fused=self.on_gpu)
        self.model: nn.Module = torch.compile(self.gpt) if options.compile else self.gpt
        if place.world > 1 and not options.no_overlap:
            self.model = DistributedDataParallel(self.model, gradient_as_bucket_view=True)
        self.steps = 0

    def step(self, batch: Tensor) -> Tensor:
        """Do one optimizer step and return the loss, on the device: nothing here waits for the GPU.

        Args:
            batch: (micro-batches, sequences, context + 1), int64.
        """
        batch = batch.to(self.place.device, non_blocking=True)
        losses = [self._micro_step(tokens, last=k == len(batch) - 1) for k, tokens in enumerate(batch)]
        torch.nn.utils.clip_grad_norm_(self.gpt.parameters(), 1.0)
        self.steps += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * min(1.0, self.steps / WARMUP_STEPS)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return torch.stack(losses).mean()

    def _micro_step(self, tokens: Tensor, *, last: bool) -> Tensor:
        is_ddp = isinstance(self.model, DistributedDataParallel)
        # Gradients of a step add up on each rank; only the last micro-batch's backward pass sends them.
        with self.model.no_sync() if is_ddp and not last else contextlib.nullcontext():
            with self._precision():
                loss = self.model(tokens[:, :-1], tokens[:, 1:])
            (loss / self.options.accumulate).backward()
        if self.options.no_overlap:
            exchange_one_by_one(self.gpt.parameters())
        if self.options.sync_logging:
            log_synchronously(self.gpt, loss, self.steps)
        return loss.detach()

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        if self.options.fp32:
            # The memory-efficient attention kernels multiply float32 on the tensor cores, in three parts.
            return sdpa_kernel(SDPBackend.MATH)
        return torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.on_gpu)


class Reporter:
    """Speed and loss every few seconds: in words, and as progress of the run for a satscore around it.

    Rank 0 reports, for the whole job.

    Args:
        trainer: Whose progress it is.
    """

    def __init__(self, trainer: Trainer) -> None:
        options, place = trainer.options, trainer.place
        shape = SHAPES[options.model]
        self._trainer = trainer
        self._speaks = place.rank == 0
        self._tokens_per_step = place.world * options.accumulate * options.micro_batch * shape.context
        self._started_s = self._last_s = time.perf_counter()
        self._last_step = 0
        weights = sum(weight.numel() for weight in trainer.gpt.parameters())
        where = torch.cuda.get_device_name(place.device) if trainer.on_gpu else "CPU"
        self._say(
            f"{options.model}: {weights / 1e6:.1f} M parameters, {self._tokens_per_step:,} tokens per step, "
            f"{place.world} x {where}"
        )

    def after_step(self, loss: Tensor) -> None:
        """Print a line if the last one is old enough."""
        if self._speaks and (self._trainer.steps == 1 or time.perf_counter() - self._last_s >= REPORT_S):
            self._report(loss)

    def at_end(self, loss: Tensor) -> None:
        """Print the last line, and the whole run's mean."""
        if not self._speaks:
            return
        if self._last_step < self._trainer.steps:
            self._report(loss)
        steps, elapsed_s = self._trainer.steps, self._last_s - self._started_s
        memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most" if self._trainer.on_gpu else ""
        self._say(f"done: {steps} steps in {elapsed_s:.1f} s, {self._speed(steps, elapsed_s)}{memory}")

    def _report(self, loss: Tensor) -> None:
        value = loss.item()  # waits for the GPU: the time below is that of finished work
        now_s, steps = time.perf_counter(), self._trainer.steps
        count, elapsed_s = steps - self._last_step, now_s - self._last_s
        step_ms = 1e3 * elapsed_s / count
        self._say(f"step {steps:6d}  loss {value:.4f}  {step_ms:8.1f} ms  {self._speed(count, elapsed_s)}")
        self._tell_satscore(count)
        self._last_step, self._last_s = steps, now_s

    def _tell_satscore(self, count: int) -> None:
        """Say how many steps more are finished; nothing happens where no satscore runs around this program."""
        if satscore is None:
            return
        tokens = count * self._tokens_per_step
        satscore.progress(step=self._trainer.steps, tokens=tokens, flop=tokens * self._trainer.gpt.flop_per_token())
        if self._last_step == 0:
            satscore.mark("first step done")  # what lies before is loading, allocating and compiling

    def _speed(self, steps: int, elapsed_s: float) -> str:
        tokens_s = steps * self._tokens_per_step / elapsed_s
        text = f"{tokens_s:,.0f} tokens/s"
        peak_tflops = self._trainer.options.peak_tflops
        if peak_tflops is None:
            return text
        flops_s = tokens_s * self._trainer.gpt.flop_per_token() / self._trainer.place.world
        return f"{text}  MFU {100 * flops_s / (peak_tflops * 1e12):.1f} %"

    def _say(self, line: str) -> None:
        if self._speaks:
            print(line, flush=True)


def is_over(trainer: Trainer, until_s: float) -> bool:
    """Return whether to stop: rank 0's clock decides, and all ranks hear of it after the same step."""
    steps = trainer.options.steps
    over = torch.tensor(time.perf_counter() >= until_s or (steps is not None and trainer.steps >= steps))
    if trainer.place.world > 1:
        dist.broadcast(over, src=0)
    return bool(over)


def train(options: argparse.Namespace, place: Place) -> None:
    """Train until the steps or the minutes are over."""
    torch.set_float32_matmul_precision("highest" if options.fp32 else "high")
    size = (options.accumulate, options.micro_batch, SHAPES[options.model].context + 1)
    seed = 10_000 * options.seed + place.rank
    delay_s = options.slow_loader / 1e3
    batches = load_batches(
        StepBatches(read_corpus(), size, seed=seed, delay_s=delay_s),
        workers=0 if delay_s else options.workers,
        pinned=place.device.type == "cuda" and not delay_s,
    )
    trainer = Trainer(options, place)
    reporter = Reporter(trainer)
    until_s = time.perf_counter() + 60 * options.minutes
    for batch in batches:
        loss = trainer.step(batch)
        reporter.after_step(loss)
        if is_over(trainer, until_s):
            reporter.at_end(loss)
            break


def positive(text: str) -> int:
    """Return a whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description="Pre-train a small GPT.")
    default_model = "124M" if torch.cuda.is_available() else "tiny"
    add = parser.add_argument
    add("--model", choices=list(SHAPES), default=default_model, help="default: 124M on a GPU, else tiny")
    add("--steps", type=positive, metavar="N", help="stop after so many optimizer steps")
    add("--minutes", type=float, metavar="M", help=f"stop after M minutes; default: {DEFAULT_MINUTES} without --steps")
    add("--micro-batch", type=positive, metavar="N", help="sequences per micro-batch and rank; default: by model")
    add("--accumulate", type=positive, metavar="N", help="micro-batches per step; default: by model")
    add("--learning-rate", type=float, metavar="X", help="after warm-up; default: by model")
    add("--workers", type=int, default=1, metavar="N", help="processes that make batches; default: 1")
    add("--seed", type=int, default=0, metavar="N", help="of weights and data; default: 0")
    add("--compile", action="store_true", help="torch.compile: fused kernels, after a minute of compiling")
    add("--peak-tflops", type=float, metavar="X", help="dense peak of one GPU for your data type: prints the MFU")
    wrong = parser.add_argument_group("mistakes", "one each, with the finding that satscore should then give on a GPU")
    add = wrong.add_argument
    add(
        "--slow-loader",
        type=float,
        default=0.0,
        metavar="MS",
        help="a step's data takes MS ms more, no prefetch: HOST_STALL",
    )
    add("--fp32", action="store_true", help="neither bf16 nor TF32: TENSOR_UNUSED")
    add("--tiny-batch", action="store_true", help="one sequence per step: HOST_GAPS")
    add("--sync-logging", action="store_true", help="figures of every gradient at every micro-step: HOST_GAPS")
    add("--no-overlap", action="store_true", help="gradients sent one by one after backward: COMM_EXPOSED, COMM_WAIT")
    return parser


def parse_options(world: int) -> argparse.Namespace:
    """Return the options, completed by the model's defaults."""
    parser = build_parser()
    options = parser.parse_args()
    if options.no_overlap and world == 1:
        parser.error("--no-overlap needs several processes: torchrun --standalone --nproc-per-node 2 train.py ...")
    micro_batch, accumulate, learning_rate = BATCHES[options.model]
    if options.tiny_batch:
        micro_batch, accumulate = 1, 1
    options.micro_batch = options.micro_batch or micro_batch
    options.accumulate = options.accumulate or accumulate
    options.learning_rate = options.learning_rate or learning_rate
    if options.minutes is None:
        options.minutes = DEFAULT_MINUTES if options.steps is None else float("inf")
    return options


def main() -> None:
    """Parse, train, leave the process group."""
    options = parse_options(int(os.environ.get("WORLD_SIZE", "1")))
    place = find_place()
    train(options, place)
    if place.world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
