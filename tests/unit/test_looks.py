"""What looks at processes tell: which GPUs the command uses, who else is there, and what stays unknown."""

from hypothesis import given
from hypothesis import strategies as st

from satscore.core.placement import NOTHING_KNOWN, GpuLooks, Look, Placement, is_shared, look_at

A, B, C = "GPU-a", "GPU-b", "GPU-c"
UUIDS = (A, B, C)
FRESH = Placement(gpus=tuple(GpuLooks(uuid=uuid, nvml_index=i) for i, uuid in enumerate(UUIDS)))


def uses(placement: Placement) -> list[str | None]:
    return [placement.use_of(uuid) for uuid in UUIDS]


def after(*looks: Look, assumed: bool = False) -> Placement:
    placement = Placement(assumed=assumed, gpus=FRESH.gpus)
    for look in looks:
        placement = placement.after(look)
    return placement


# --- one look


def test_a_process_of_the_command_is_recognised_on_its_gpu():
    look = look_at({A: [7], B: [], C: [7, 8]}, ours={7, 8}, present={7, 8})
    assert look.listed == {A, B, C}
    assert look.computing == {A, C}
    assert look.foreign == {A: 0, B: 0, C: 0}


def test_ids_that_cannot_be_compared_tell_nothing():
    """In a container: ids of another namespace, which do not exist here."""
    look = look_at({A: [70001], B: []}, ours=(), present=())
    assert look.computing == set()
    assert look.foreign == {}


def test_once_one_is_ours_every_other_id_is_somebody_elses():
    look = look_at({A: [7, 70001, 70002], B: [70003]}, ours={7}, present={7})
    assert look.foreign == {A: 2, B: 1}


def test_an_id_that_exists_here_and_is_not_ours_is_somebody_elses():
    look = look_at({A: [9], B: [70001], C: []}, ours=(), present={9})
    assert look.foreign == {A: 1}


def test_a_process_that_the_driver_hides_is_not_judged():
    look = look_at({A: [7, 0], B: [7], C: [7, 0, 9]}, ours={7}, present={7, 9})
    assert look.foreign == {B: 0, C: 1}


def test_the_server_of_mps_is_nobody():
    look = look_at({A: [5, 7], B: [5]}, ours={7}, present={5, 7}, servers={5})
    assert look.foreign == {A: 0, B: 0}
    assert look_at({A: [5]}, ours=(), present={5}, servers={5}).foreign == {}


# --- all looks


def test_before_any_look_all_that_is_visible_counts():
    assert uses(FRESH) == uses(NOTHING_KNOWN) == ["visible"] * 3
    assert uses(after(assumed=True)) == ["assumed"] * 3


def test_processes_tell_which_gpus_are_used():
    placement = after(Look(listed=frozenset(UUIDS), computing=frozenset({B})), assumed=True)
    assert uses(placement) == [None, "process", None]
    assert placement.known_by == "process"


def test_a_gpu_whose_list_is_refused_is_not_known_to_be_unused():
    assert uses(after(Look(listed=frozenset({A, B}), computing=frozenset({A})))) == ["process", None, "visible"]


def test_a_gpu_that_nobody_looked_at_is_not_known_to_be_unused():
    placement = after(Look(listed=frozenset(UUIDS), computing=frozenset({A})))
    assert placement.use_of(None) == placement.use_of("GPU-other") == "visible"


def test_environment_tells_where_processes_do_not():
    placement = after(Look(environment={A: "environment", B: "assumed"}))
    assert uses(placement) == ["environment", "assumed", None]
    assert placement.known_by == "environment"


def test_processes_overrule_the_environment_whichever_comes_first():
    seen = Look(listed=frozenset(UUIDS), computing=frozenset({C}))
    shown = Look(environment={A: "environment"})
    assert uses(after(shown, seen)) == uses(after(seen, shown)) == [None, None, "process"]


def test_sure_environment_overrules_an_assumed_one():
    one, other = Look(environment={A: "assumed"}), Look(environment={A: "environment"})
    assert uses(after(one, other))[0] == uses(after(other, one))[0] == "environment"


def test_gpus_outside_those_read():
    seen = Look(listed=frozenset(UUIDS), computing=frozenset({B, C}))
    assert [gpu.uuid for gpu in after(seen).used_outside({A, B})] == [C]
    assert [gpu.uuid for gpu in after(Look(environment={A: "assumed"})).used_outside({B})] == [A]
    assert FRESH.used_outside(set()) == ()


def test_share_of_looks_with_others():
    clear, shared, unknown = Look(foreign={A: 0}), Look(foreign={A: 3}), Look()
    gpu = after(unknown, clear, shared, clear, shared, unknown).gpus[0]
    assert (gpu.shared_frac, gpu.foreign_max_count, gpu.judged_count) == (0.5, 3, 4)
    assert FRESH.gpus[0].shared_frac is None


def test_one_look_of_many_is_the_job_before_that_still_ends():
    looks = [Look(foreign={A: 1}), *[Look(foreign={A: 0})] * 19]
    assert not is_shared(after(*looks).gpus[0].shared_frac)
    assert is_shared(after(*looks, Look(foreign={A: 1})).gpus[0].shared_frac)
    assert not is_shared(None)


LOOKS = st.lists(
    st.builds(
        Look,
        listed=st.frozensets(st.sampled_from(UUIDS)),
        computing=st.frozensets(st.sampled_from(UUIDS)),
        environment=st.dictionaries(st.sampled_from(UUIDS), st.sampled_from(["environment", "assumed"])),
        foreign=st.dictionaries(st.sampled_from(UUIDS), st.integers(0, 3)),
    ),
    max_size=6,
)


@given(LOOKS, st.booleans())
def test_something_is_always_used(looks, assumed):
    """No look can take every GPU out of the score of a machine, wherever the command runs."""
    placement = after(*looks, assumed=assumed)
    assert any(uses(placement))
    outside = placement.used_outside({A})
    assert all(gpu.uuid != A for gpu in outside)


@given(LOOKS, LOOKS, st.booleans())
def test_what_was_used_once_stays_used(looks, more, assumed):
    """More looks may find better evidence, but never take a GPU away on the same."""
    before, then = after(*looks, assumed=assumed), after(*looks, *more, assumed=assumed)
    for uuid in UUIDS:
        if before.use_of(uuid) == "process":
            assert then.use_of(uuid) == "process"
        if before.known_by == then.known_by == "environment" and before.use_of(uuid):
            assert then.use_of(uuid)


@given(LOOKS)
def test_the_order_of_looks_does_not_matter(looks):
    assert after(*looks) == after(*reversed(looks))


@given(LOOKS)
def test_the_same_conclusion_is_no_news(looks):
    placement = after(*looks)
    assert placement.concludes_as(placement.after(Look()))
