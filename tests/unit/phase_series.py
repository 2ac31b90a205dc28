"""Makers of synthetic job series with known phases: U and engine activity per 1 s window."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from satscore.core.labels import Label
from satscore.core.phases import LabelArray
from satscore.core.readings import FloatArray

UNKNOWN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A series and the labels that it was made from."""

    sat: FloatArray
    engine: FloatArray
    truth: LabelArray


def noise(rng: np.random.Generator, n: int, sigma: float, phi: float = 0.6) -> FloatArray:
    """Return stationary AR(1) noise of standard deviation sigma."""
    shocks = rng.normal(0.0, sigma * np.sqrt(1 - phi * phi), n)
    out = np.empty(n)
    value = rng.normal(0.0, sigma)
    for i, shock in enumerate(shocks):
        value = phi * value + shock
        out[i] = value
    return out


def step_wave(n: int, period_s: float, amplitude: float) -> FloatArray:
    """Return what a training step that is no whole number of windows leaves in them."""
    wave: FloatArray = amplitude * np.sin(2 * np.pi * np.arange(n) / period_s)
    return wave


def spoken(labels: Sequence[int] | LabelArray) -> list[tuple[str, int]]:
    """Return labels as (name, windows in a row)."""
    return [(Label(label).text, len(list(run))) for label, run in itertools.groupby(labels)]


def pieces(*parts: tuple[int, float, float], sigma: float = 0.01, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Return U and engine of stretches (windows, level, engine) with noise where there is work."""
    rng = np.random.default_rng(seed)
    level = np.concatenate([np.full(n, value) for n, value, _ in parts])
    engine = np.concatenate([np.full(n, value) for n, _, value in parts])
    sat = np.clip(level + np.where(level > 0, noise(rng, len(level), sigma, 0.3), 0.0), 0.0, 1.0)
    return sat, engine


def training(rng: np.random.Generator) -> Series:
    """Return a run as most are: start-up, ramp, steady with noise and a step period, checkpoints, shutdown."""
    n = int(rng.integers(900, 3600))
    startup, ramp, tail = (int(rng.integers(*limits)) for limits in ((30, 121), (20, 91), (0, 31)))
    level = rng.uniform(0.3, 0.8)
    busy = n - startup - tail
    sat = level + noise(rng, n, 0.03 * level, rng.uniform(0.0, 0.8))
    sat += step_wave(n, rng.uniform(2.0, 31.0), 0.05 * level)
    truth = np.full(n, Label.STEADY, dtype=np.int8)
    sat[startup : startup + ramp] *= np.linspace(0.0, 1.0, ramp, endpoint=False)
    engine = np.clip(sat / level, 0.0, 1.0)
    truth[startup : startup + ramp] = Label.WARMUP
    at = startup + ramp + int(rng.integers(200, 401))
    while at < startup + busy - 60:
        length = int(rng.integers(5, 26))
        sat[at : at + length] = rng.uniform(0.0, 0.1, length) * level
        engine[at : at + length] = rng.uniform(0.0, 0.1, length)
        truth[at : at + length] = Label.DIP
        at += int(rng.integers(200, 401))
    for part, label in ((slice(0, startup), Label.STARTUP), (slice(n - tail, n), Label.TAIL)):
        sat[part] = engine[part] = 0.0
        truth[part] = label
    return Series(sat=np.clip(sat, 0.0, 1.0), engine=engine, truth=truth)


def right_frac(labels: Sequence[int] | LabelArray, truth: LabelArray) -> float:
    """Return the share of windows that are labelled right."""
    return float((np.asarray(labels) == truth).mean())


def bias_points(series: Series, labels: Sequence[int] | LabelArray) -> float:
    """Return the error of the steady score, in points, against that of the true steady windows."""
    mine = series.sat[np.asarray(labels) == Label.STEADY]
    return 100.0 * float(mine.mean() - series.sat[series.truth == Label.STEADY].mean())
