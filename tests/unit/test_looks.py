"""What looks at processes tell: which GPUs the command uses, who else is there, and what stays unknown."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satscore.core.gpu import GpuInfo
from satscore.core.gpu_claims import wanted_gpus, with_claims
from satscore.core.placement import (
    NOTHING_KNOWN,
    GpuLooks,
    Listed,
    Look,
    Placement,
    Seen,
    is_shared,
    look_at,
    who_is,
)
from satscore.run.rank_gpus import certain_gpus

A, B, C = "GPU-a", "GPU-b", "GPU-c"
UUIDS = (A, B, C)
FRESH = Placement(gpus=tuple(GpuLooks(uuid=uuid, nvml_index=i) for i, uuid in enumerate(UUIDS)))
EMPTY, OURS, FOREIGN, PERHAPS, HIDDEN = Seen(), Seen(ours=1), Seen(foreign=1), Seen(perhaps=1), Seen(hidden=1)


def look(*seen: Seen | None, **environment: str) -> Look:
    """Return what a look saw on A, B, C; None: the list was refused."""
    given = {uuid: one for uuid, one in zip(UUIDS, seen, strict=False) if one is not None}
    return Look(seen=given, environment={f"GPU-{name}": use for name, use in environment.items()})  # type: ignore[misc]


def after(*looks: Look, assumed: bool = False) -> Placement:
    """Return what looks told that stand for a second each."""
    placement = Placement(assumed=assumed, gpus=FRESH.gpus)
    for one in looks:
        placement = placement.after(one, 1000)
    return placement


def of_rank(choice: str, *looks: Look, claimed: tuple[str, ...] = ()) -> Placement:
    """Return what is known of a rank that sees what its neighbours see."""
    return msgspec.structs.replace(after(*looks), local_choice=(choice,), claimed=claimed)


def uses(placement: Placement, *worked: str) -> list[str | None]:
    """Return how A, B, C are known to be used, those with work being given."""
    return [placement.use_of(uuid, worked=uuid in worked) for uuid in UUIDS]


# --- one process


CASES = [
    ("descendant or marked", {"exists": True, "is_ours": True}, "ours"),
    ("ended, was ours", {"is_ours": True}, "ours"),
    ("ours, though older", {"exists": True, "is_ours": True, "started_before": True}, "ours"),
    ("server of MPS", {"exists": True, "is_server": True, "started_before": True}, "nobody"),
    ("server of MPS below us", {"exists": True, "is_server": True, "is_ours": True}, "nobody"),
    ("of another run", {"exists": True, "of_other_run": True}, "foreign"),
    ("older than we", {"exists": True, "started_before": True}, "foreign"),
    ("of another user", {"exists": True, "of_other_user": True}, "foreign"),
    ("started by a daemon, maybe for us", {"exists": True}, "perhaps"),
    ("just ended", {}, "nobody"),
]


@pytest.mark.parametrize(("facts", "who"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_whose_a_process_is(facts, who):
    assert who_is(Listed(**facts), comparable=True, all_shown=True) == who


def test_where_proc_hides_other_users_an_id_that_it_lacks_may_be_theirs():
    assert who_is(Listed(), comparable=True, all_shown=False) == "hidden"
    assert who_is(Listed(exists=True, of_other_run=True), comparable=True, all_shown=False) == "foreign"


LISTED = st.builds(Listed, **dict.fromkeys(Listed.__struct_fields__, st.booleans()))


@given(LISTED, st.booleans())
def test_in_another_namespace_an_equal_number_proves_nothing(process, all_shown):
    who = who_is(process, comparable=False, all_shown=all_shown)
    assert who in {"ours", "hidden"}
    assert who == "hidden" or (process.is_ours and process.has_cuda)


# --- one look


def test_processes_are_counted_by_gpu():
    who = {7: "ours", 8: "ours", 9: "foreign", 10: "perhaps", 11: "nobody"}
    told = look_at({A: [7, 8, 7], B: [9, 10, 11], C: [0, 7]}, who, comparable=True)  # type: ignore[arg-type]
    assert told.seen == {A: Seen(ours=2), B: Seen(foreign=1, perhaps=1), C: Seen(ours=1, hidden=1)}
    assert told.recognised
    assert not look_at({A: [9], B: [0]}, who, comparable=True).recognised  # type: ignore[arg-type]


SHARED = [
    (EMPTY, False),
    (OURS, False),
    (FOREIGN, True),
    (Seen(ours=1, foreign=1), True),
    (Seen(foreign=1, hidden=1), True),
    (PERHAPS, None),
    (Seen(ours=1, perhaps=1), True),
    (HIDDEN, None),
    (Seen(ours=1, hidden=1), None),
]


@pytest.mark.parametrize(("seen", "shared"), SHARED)
def test_whether_a_gpu_is_shared(seen, shared):
    assert seen.shared is shared


# --- all looks


def test_before_any_look_all_that_is_visible_counts():
    assert uses(FRESH) == uses(NOTHING_KNOWN) == ["visible"] * 3
    assert uses(after(assumed=True)) == ["assumed"] * 3


def test_processes_tell_which_gpus_are_used():
    placement = after(look(EMPTY, OURS, EMPTY), assumed=True)
    assert uses(placement) == [None, "process", None]
    assert placement.known_by == "process"


def test_a_gpu_that_worked_unseen_counts_unless_the_work_is_proven_to_be_of_others():
    placement = after(look(OURS, EMPTY, FOREIGN))
    assert uses(placement, A, B, C) == ["process", "visible", None]


@pytest.mark.parametrize("other", [PERHAPS, HIDDEN, Seen(foreign=1, perhaps=1)])
def test_a_gpu_with_processes_that_may_be_the_commands_counts(other):
    for looks in ([look(OURS, other, EMPTY)], [look(None, other), look(OURS, EMPTY, EMPTY)]):
        for order in (looks, looks[::-1]):
            assert uses(after(*order)) == ["process", "visible", None]


def test_a_gpu_whose_list_is_refused_is_not_known_to_be_unused():
    assert uses(after(look(OURS, EMPTY, None))) == ["process", None, "visible"]


def test_a_list_that_was_read_once_does_not_make_later_refusals_mean_not_there():
    early, refused = look(EMPTY, EMPTY, EMPTY), look(OURS, None, EMPTY)
    assert uses(after(early, refused)) == ["process", "visible", None]
    assert uses(after(look(OURS, EMPTY, EMPTY), refused)) == ["process", "visible", None]


def test_a_gpu_that_nobody_looked_at_is_not_known_to_be_unused():
    placement = after(look(OURS, EMPTY, EMPTY))
    assert placement.use_of(None, worked=False) == placement.use_of("GPU-other", worked=False) == "visible"


def test_environment_tells_where_processes_do_not():
    placement = after(look(None, None, PERHAPS, a="environment", b="assumed"))
    assert uses(placement, C) == ["environment", "assumed", None]
    assert placement.known_by == "environment"


def test_processes_overrule_the_environment_whichever_comes_first():
    seen, shown = look(EMPTY, EMPTY, OURS), look(a="environment")
    assert uses(after(shown, seen)) == uses(after(seen, shown)) == [None, None, "process"]


def test_the_surer_environment_overrules():
    ways = [look(a="visible"), look(a="assumed"), look(a="environment")]
    for i, way in enumerate(["visible", "assumed", "environment"]):
        assert uses(after(*ways[: i + 1]))[0] == uses(after(*ways[i::-1]))[0] == way


def test_gpus_outside_those_read():
    seen = after(look(EMPTY, OURS, OURS))
    assert [gpu.uuid for gpu in seen.used_outside({A, B})] == [C]
    assert not seen.computes_elsewhere({A, B})
    assert seen.computes_elsewhere({A, None})
    shown = after(look(a="assumed", c="visible"))
    assert [gpu.uuid for gpu in shown.used_outside({B})] == [A], "what may be shown is not known to be"
    assert not shown.computes_elsewhere({B})
    assert FRESH.used_outside(set()) == ()


def test_sharing_is_weighted_by_time():
    """Looks come often at the start: the job before, which still ends then, is a small part of the run."""
    gpu = FRESH.gpus[0].after(look(FOREIGN), 1000).after(look(Seen(foreign=3)), 2000)
    assert (gpu.shared_frac, gpu.company_max_count) == (1.0, 3)
    for _ in range(6):
        gpu = gpu.after(look(HIDDEN), 70_000).after(look(OURS), 10_000).after(look(None), 10_000)
    assert (gpu.judged_ms, gpu.shared_ms) == (63_000, 3000)
    assert not is_shared(gpu.shared_frac)
    assert is_shared(gpu.after(look(Seen(ours=1, perhaps=1)), 10_000).shared_frac)
    assert FRESH.gpus[0].shared_frac is None
    assert not is_shared(None)


def test_where_nobody_can_be_told_apart_nothing_is_judged():
    seen = msgspec.structs.replace(look(OURS, EMPTY), comparable=False)
    assert [gpu.judged_ms for gpu in after(seen).gpus] == [0, 0, 0]


COUNTS = st.integers(0, 2)
SEEN = st.builds(Seen, ours=COUNTS, foreign=COUNTS, perhaps=COUNTS, hidden=COUNTS)
LOOK = st.builds(
    Look,
    seen=st.dictionaries(st.sampled_from(UUIDS), SEEN),
    comparable=st.booleans(),
    environment=st.dictionaries(st.sampled_from(UUIDS), st.sampled_from(["environment", "assumed", "visible"])),
)
LOOKS = st.lists(LOOK, max_size=6)
WORKED = st.sets(st.sampled_from(UUIDS))


@given(LOOKS, WORKED)
def test_without_proof_no_gpu_is_dropped(looks, worked):
    """Where processes were recognised: what follows from the looks themselves, not from what is kept of them."""
    placement = after(*looks)
    for uuid, use in zip(UUIDS, uses(placement, *worked), strict=True):
        seen = [one.seen[uuid] for one in looks if uuid in one.seen]
        if any(one.ours for one in seen):
            assert use == "process"
        elif placement.known_by == "process":
            proven = not any(one.perhaps or one.hidden for one in seen)
            proven &= all(uuid in one.seen for one in looks if one.recognised)
            proven &= uuid not in worked or any(one.foreign for one in seen)
            assert (use is None) == proven


@given(LOOKS, WORKED, st.booleans())
def test_something_is_always_used(looks, worked, assumed):
    """No look can take every GPU out of the score of a machine, wherever the command runs."""
    placement = after(*looks, assumed=assumed)
    assert any(uses(placement, *worked))
    assert all(gpu.uuid != A for gpu in placement.used_outside({A}))


@given(LOOKS, LOOKS, st.booleans())
def test_what_was_used_once_stays_used(looks, more, assumed):
    """More looks may find better evidence, but never take a GPU away on the same."""
    before, then = after(*looks, assumed=assumed), after(*looks, *more, assumed=assumed)
    for one, other in zip(uses(before), uses(then), strict=True):
        if one == "process":
            assert other == "process"
        if before.known_by == then.known_by == "environment" and one:
            assert other


@given(LOOKS)
def test_the_order_of_looks_does_not_matter(looks):
    assert after(*looks) == after(*reversed(looks))


@given(LOOKS)
def test_the_same_conclusion_is_no_news(looks):
    placement = after(*looks)
    assert placement.concludes_as(placement.after(Look(), 1000))


@given(LOOKS)
def test_shares_are_of_the_time_judged(looks):
    for gpu in after(*looks).gpus:
        assert 0 <= gpu.shared_ms <= gpu.judged_ms <= 1000 * len(looks)


# --- ranks that see the same GPUs


def reasons(placement: Placement) -> list[str | None]:
    """Return why A, B, C do not count; None: they do."""
    found = zip(UUIDS, uses(placement), strict=True)
    return [None if use else placement.unused_by(uuid) for uuid, use in found]


RANKS = [
    ("nothing known", [], ["local_rank", "local_rank", "local_rank"]),
    ("the choice was right", [look(FOREIGN, OURS, FOREIGN)], ["process", "process", "process"]),
    ("a rank on another GPU", [look(OURS, FOREIGN, EMPTY)], ["process", "process", "process"]),
    ("and the chosen one works for whoever is hidden", [look(OURS, HIDDEN, EMPTY)], ["process", "process", "process"]),
    ("or its list is refused", [look(OURS, None, EMPTY)], ["process", "process", "process"]),
    ("two GPUs", [look(OURS, OURS, FOREIGN)], ["process", "process", "process"]),
    ("nobody recognised", [look(HIDDEN, HIDDEN, HIDDEN)], ["local_rank", "local_rank", "local_rank"]),
    ("others only", [look(FOREIGN, FOREIGN, EMPTY)], ["local_rank", "local_rank", "local_rank"]),
    ("shown all", [look(a="visible", b="visible", c="visible")], ["local_rank", "local_rank", "local_rank"]),
    ("shown its own", [look(b="environment")], ["environment", "environment", "environment"]),
    ("shown another", [look(c="environment", a="visible")], ["environment", "environment", "environment"]),
    ("shown, then seen", [look(c="environment"), look(EMPTY, OURS, EMPTY)], ["process", "process", "process"]),
]
USED = [[1], [1], [0], [0], [0], [0, 1], [1], [1], [1], [1], [2], [1]]


@pytest.mark.parametrize(
    ("looks", "expected", "used"),
    [(*case[1:], used) for case, used in zip(RANKS, USED, strict=True)],
    ids=[case[0] for case in RANKS],
)
def test_what_a_rank_uses_of_what_all_see(looks, expected, used):
    """Its number on the node tells until processes or their environment do; all other GPUs are its neighbours'."""
    placement = of_rank(B, *looks)
    how, why = uses(placement, A, B, C), reasons(placement)
    assert [i for i in range(3) if how[i]] == used
    assert [how[i] or why[i] for i in range(3)] == expected
    assert placement.goes_by_local_rank == ("local_rank" in how)
    numbered = msgspec.structs.replace(placement, assumed=True)
    assert uses(numbered, A, B, C) == ["assumed" if one == "local_rank" else one for one in how]
    assert placement.use_of(None, worked=True) is None
    gpus = [GpuInfo(index=i, uuid=uuid) for i, uuid in enumerate(UUIDS)]
    assert certain_gpus(placement, gpus) == [i for i in used if how[i] == "process"]


def test_a_gpu_that_another_rank_counts_is_not_counted_here_whatever_is_known():
    placement = of_rank(B, look(EMPTY, OURS, OURS), claimed=(B,))
    assert uses(placement, A, B, C) == [None, None, "process"]
    assert reasons(placement) == ["process", "claimed", None]
    assert certain_gpus(placement, [GpuInfo(index=i, uuid=uuid) for i, uuid in enumerate(UUIDS)]) == [2]
    alone = msgspec.structs.replace(after(), claimed=(A,))
    assert uses(alone) == [None, "visible", "visible"]
    assert reasons(alone) == ["claimed", None, None]
    assert not placement.concludes_as(of_rank(B, look(EMPTY, OURS, OURS)))


def test_what_counts_is_claimed():
    assert wanted_gpus(after(), [A, C, None]) == {A, C}
    assert wanted_gpus(of_rank(B), UUIDS) == {B}
    assert wanted_gpus(of_rank(B, look(OURS, EMPTY, EMPTY)), UUIDS) == {A}
    assert wanted_gpus(after(look(OURS, EMPTY, FOREIGN)), UUIDS) == {A, B}, "work that may be found later is held"


def test_a_refused_gpu_is_tried_again_only_if_the_command_was_seen_there():
    refused = with_claims(of_rank(B), {B}, {B})
    assert refused.claimed == (B,)
    assert wanted_gpus(refused, UUIDS) == frozenset()
    assert with_claims(refused, set(), set()).claimed == (B,), "its holder may end before us: it stays the holder's"
    seen = refused.after(look(EMPTY, OURS, EMPTY), 1000)
    assert wanted_gpus(seen, UUIDS) == {B}
    freed = with_claims(seen, {B}, set())
    assert freed.claimed == ()
    assert uses(freed) == [None, "process", None]


@given(LOOKS, st.sets(st.sampled_from(UUIDS)), st.sampled_from([None, *UUIDS]))
def test_of_two_ranks_never_both_count_a_gpu(looks, refused, choice):
    """Whatever the looks say: what is held elsewhere counts elsewhere, and what counts here is held."""
    known = after(*looks) if choice is None else of_rank(choice, *looks)
    wanted = wanted_gpus(known, UUIDS)
    placement = with_claims(known, wanted, refused & wanted)
    for worked in ((), UUIDS):
        counted = {uuid for uuid, use in zip(UUIDS, uses(placement, *worked), strict=True) if use}
        assert counted <= wanted - refused
