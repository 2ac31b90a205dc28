"""Links: what is counted of their states, what is lost, and that stored sums keep it."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core import wire
from satscore.core.fields import Reading, blank_reading, put
from satscore.core.gpu import GpuInfo
from satscore.core.links import MOST_STATE, LinkFacts, links_of, time_in_states
from satscore.core.rank_state import GpuState
from satscore.core.readings import ReadingTable, table_of
from satscore.core.state_check import check_sums
from satscore.core.sums import Sums, add_readings, merge_all
from satscore.errors import RecordError

NS = 1_000_000_000
MINUTE_US = 60_000_000
BOARD = GpuInfo(index=0, pcie_generation_max=5, pcie_lanes_max_count=16, nvlink_count=18)
few = settings(max_examples=50, deadline=None)


def reading(at_s: float, length_s: float = 1.0, **values: float) -> Reading:
    made = blank_reading(0, round(at_s * NS), round((at_s + length_s) * NS))
    for name, value in values.items():
        put(made, name, value)
    return made


def table(*readings: dict[str, float]) -> ReadingTable:
    return table_of([reading(i, **values) for i, values in enumerate(readings)])


def link(generation: float, lanes: float, **values: float) -> dict[str, float]:
    return {"pcie_generation": generation, "pcie_lanes_count": lanes} | values


def sums_of(made: ReadingTable) -> Sums:
    out = Sums()
    add_readings(out, made)
    return out


def links(sums: Sums, info: GpuInfo = BOARD) -> LinkFacts:
    return links_of(info, sums.pcie_us, sums.nvlink_us, sums.counts, sums.read_us)


# --- which readings count


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ({"engine_active_frac": 0.5}, True),
        ({"engine_active_frac": 0.49}, False),
        ({"engine_active_frac": 0.0, "gpu_util_frac": 1.0}, False),  # utilisation only where the engine is unknown
        ({"gpu_util_frac": 0.5}, True),
        ({"gpu_util_frac": 0.4}, False),
        ({}, False),
        ({"engine_active_frac": 0.0, "pcie_rx_bytes_s": 1e9}, True),
        ({"pcie_tx_bytes_s": 1e9}, True),
        ({"pcie_tx_bytes_s": 0.9e9}, False),
    ],
)
def test_pcie_counts_only_under_load(values, counts):
    assert time_in_states(table(link(1, 16, **values)))[0] == ({116: 1_000_000} if counts else {})


def test_nvlink_counts_whatever_the_load():
    made = table({"nvlink_active_count": 18.0}, {"nvlink_active_count": 17.0, "engine_active_frac": 1.0})
    assert time_in_states(made)[1] == {18: 1_000_000, 17: 1_000_000}


def test_half_a_state_is_none():
    busy = {"engine_active_frac": 1.0}
    assert time_in_states(table({"pcie_generation": 5.0} | busy, {"pcie_lanes_count": 16.0} | busy))[0] == {}


@pytest.mark.parametrize("wild", [-1.0, 1e30, -1e30, float(MOST_STATE), float("inf")])
def test_numbers_that_are_no_states_are_left_out(wild):
    made = table(link(wild, 16, engine_active_frac=1.0, nvlink_active_count=wild))
    assert time_in_states(made) == ({}, {})


# --- what is lost


@pytest.mark.parametrize(
    ("pcie_us", "lost", "shown"),
    [
        ({516: 10}, 0.0, (5, 16)),
        ({508: 10}, 0.5, (5, 8)),
        ({316: 10}, 0.75, (3, 16)),
        ({308: 10}, 0.875, (3, 8)),
        ({516: 5, 508: 5}, 0.25, (5, 8)),
        ({516: 5, 508: 2, 316: 3}, 0.325, (3, 16)),
        ({616: 10}, 0.0, (6, 16)),  # better than what is said to be possible: nothing is lost
        ({}, None, (None, None)),
    ],
)
def test_pcie_lost_is_the_mean_of_what_is_missing(pcie_us, lost, shown):
    found = links(Sums(pcie_us=pcie_us))
    assert found.pcie_lost_frac == (None if lost is None else pytest.approx(lost))
    assert (found.pcie_generation, found.pcie_lanes_count) == shown


@pytest.mark.parametrize("unknown", ["pcie_generation_max", "pcie_lanes_max_count"])
def test_without_the_best_nothing_is_known_to_be_lost(unknown):
    info = msgspec.structs.replace(BOARD, **{unknown: None})
    assert links(Sums(pcie_us={508: 10}), info).pcie_lost_frac is None


@pytest.mark.parametrize(
    ("count", "nvlink_us", "lost", "shown"),
    [
        (18, {18: 10}, 0.0, 18),
        (18, {17: 10}, 1 / 18, 17),
        (18, {18: 5, 0: 5}, 0.5, 0),
        (18, {0: 10}, 0.0, 0),  # no bridge, no switch: there is nothing to lose
        (12, {18: 10}, 0.0, 18),
        (0, {}, 0.0, None),
        (18, {}, None, None),
        (None, {18: 10}, None, 18),
    ],
)
def test_nvlink_lost(count, nvlink_us, lost, shown):
    info = msgspec.structs.replace(BOARD, nvlink_count=count)
    found = links(Sums(nvlink_us=nvlink_us), info)
    assert found.nvlink_lost_frac == (None if lost is None else pytest.approx(lost))
    assert found.nvlink_active_count == shown


@pytest.mark.parametrize(
    ("counts", "minutes", "ratio"),
    [
        ({"pcie_replay_count": 31, "nvlink_error_count": 0}, 0.1, 31 / 30.72),
        ({"pcie_replay_count": 31, "nvlink_error_count": 0}, 2, 31 / 61.44),
        ({"pcie_replay_count": 0, "nvlink_error_count": 3}, 2, 1.5),
        ({"nvlink_error_count": 0}, 2, 0.0),
        ({}, 2, None),
    ],
)
def test_errors_against_what_is_normal(counts, minutes, ratio):
    found = links(Sums(counts=counts, read_us=round(minutes * MINUTE_US)))
    assert found.error_ratio == (None if ratio is None else pytest.approx(ratio))


# --- sums

states = st.fixed_dictionaries(
    {},
    optional={
        "engine_active_frac": st.sampled_from([0.0, 0.5, 1.0]),
        "pcie_generation": st.integers(1, 6).map(float),
        "pcie_lanes_count": st.sampled_from([1.0, 8.0, 16.0]),
        "nvlink_active_count": st.integers(0, 18).map(float),
        "pcie_replay_count": st.integers(0, 5).map(float),
    },
)


@few
@given(st.lists(states, min_size=1, max_size=12), st.data())
def test_any_split_in_any_order_gives_the_same_sums(made, data):
    whole = table(*made)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(made)), max_size=4)))
    names = ("gpu", "start_ns", "end_ns", "values", "quality")
    parts = [
        sums_of(ReadingTable(**dict(zip(names, columns, strict=True))))
        for columns in zip(*(np.split(getattr(whole, n), cuts) for n in names), strict=True)
    ]
    assert merge_all(data.draw(st.permutations(parts))) == sums_of(whole)


def through_wire(sums: Sums) -> Sums:
    names = wire.Names()
    data = wire.encode_gpus([GpuState(sums=sums)], names)
    (back,) = wire.decode_gpus(data, wire.split_names(names.table, "f"), "f")
    return back.sums


@few
@given(st.lists(states, max_size=6))
def test_stored_sums_keep_the_states_of_links(made):
    sums = sums_of(table(*made))
    assert through_wire(sums) == sums


def test_sums_of_the_first_version_know_no_links():
    """They have no such names: what was not stored is unknown, not 0."""
    old = Sums(totals={"windows": 5}, counts={"xid_count": 0}, read_us=5)
    found = links(through_wire(old))
    assert (found.pcie_lost_frac, found.nvlink_lost_frac, found.error_ratio) == (None, None, None)


@pytest.mark.parametrize("name", ["pcie_us:x", "nvlink_us:", "pcie_us:-5", "links_us:5"])
def test_names_that_are_no_states_are_refused(name):
    with pytest.raises(RecordError, match="is no name of a sum"):
        wire.split_names([name], "f")


@pytest.mark.parametrize(
    "change",
    [{"pcie_us": {516: 11}}, {"nvlink_us": {18: 6, 17: 5}}, {"pcie_us": {MOST_STATE: 1}}, {"pcie_us": {5: -1}}],
)
def test_stored_states_are_within_the_time_that_was_read(change):
    check_sums(Sums(read_us=10, pcie_us={516: 10}, nvlink_us={18: 4, 17: 6}), "train", "f")
    with pytest.raises(RecordError, match=r"^f"):
        check_sums(Sums(read_us=10, **change), "train", "f")
