"""Student's t: against tables, closed forms and its own laws."""

import math
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satscore.core.student import pooled_dof, t_quantile, t_two_sided_p

PROBABILITIES = (0.9, 0.95, 0.975, 0.995, 0.9995)
TABLE = {
    1: (3.078, 6.314, 12.706, 63.657, 636.619),
    2: (1.886, 2.920, 4.303, 9.925, 31.599),
    5: (1.476, 2.015, 2.571, 4.032, 6.869),
    19: (1.328, 1.729, 2.093, 2.861, 3.883),
    1000: (1.282, 1.646, 1.962, 2.581, 3.300),
}
"""The common three-digit table of critical values, as in every textbook (NIST/SEMATECH e-Handbook, 1.3.6.7.2)."""
SCIPY = {
    1: (3.0776835371752544, 6.313751514675037, 12.706204736174694, 63.656741162871526, 636.6192487687897),
    2: (1.8856180831641272, 2.9199855803537242, 4.302652729749462, 9.924843200918287, 31.599054576445365),
    5: (1.4758840488244815, 2.0150483733330233, 2.5705818356363146, 4.032142983555228, 6.868826625881276),
    19: (1.3277282090267986, 1.7291328115213682, 2.0930240544083087, 2.8609346064649794, 3.883405852592131),
    29.97: (1.3104445727479768, 1.6973150021200831, 2.0423581853816986, 2.75018077837473, 3.64634777554547),
    1000: (1.2823987214609247, 1.6463788172854643, 1.9623390808264083, 2.580754698065951, 3.300282648423944),
}
"""scipy.stats.t.ppf of scipy 1.17.1."""
SCIPY_P = {
    (1, 3.7): 0.37814139976045247,
    (2, 5): 0.10193947882985835,
    (3.5, 19): 0.002395346689682809,
    (12, 29.97): 5.660925004365365e-13,
    (1.96, 1000): 0.050273184955748736,
    (40, 2): 0.0006244146721847406,
}
"""2 scipy.stats.t.sf(t, dof) of scipy 1.17.1."""

laws = settings(max_examples=60, deadline=None)
dofs = st.floats(0.3, 1e5)
tails = st.floats(1e-9, 0.5, exclude_max=True)


@pytest.mark.parametrize("dof", TABLE)
def test_quantiles_of_the_printed_table(dof):
    assert [round(t_quantile(p, dof), 3) for p in PROBABILITIES] == list(TABLE[dof])


@pytest.mark.parametrize("dof", SCIPY)
def test_quantiles_to_many_digits(dof):
    assert [t_quantile(p, dof) for p in PROBABILITIES] == pytest.approx(SCIPY[dof], rel=1e-11)


@pytest.mark.parametrize(("t", "dof"), SCIPY_P)
def test_p_to_many_digits(t, dof):
    assert t_two_sided_p(t, dof) == pytest.approx(SCIPY_P[t, dof], rel=1e-11)


@laws
@given(st.floats(1e-8, 1e8))
def test_one_and_two_degrees_of_freedom_have_closed_forms(t):
    assert t_two_sided_p(t, 1) == pytest.approx(2 / math.pi * math.atan2(1, t), rel=1e-13)
    root = math.hypot(t, math.sqrt(2))
    assert t_two_sided_p(t, 2) == pytest.approx(2 / (root * (root + t)), rel=1e-13)


@pytest.mark.parametrize("p", PROBABILITIES)
def test_many_degrees_of_freedom_are_the_normal_distribution(p):
    assert t_quantile(p, 1e8) == pytest.approx(NormalDist().inv_cdf(p), rel=1e-6)


@laws
@given(tails, dofs)
def test_quantile_inverts_the_tail(tail, dof):
    assert t_two_sided_p(t_quantile(tail, dof), dof) == pytest.approx(2 * tail, rel=1e-9)


@laws
@given(st.floats(0.01, 0.5), dofs)
def test_symmetric(p, dof):
    # 1 - p is rounded, and near the middle that is all of the quantile.
    assert t_quantile(1 - p, dof) == pytest.approx(-t_quantile(p, dof), rel=1e-9, abs=1e-12)
    assert t_two_sided_p(-3 * p, dof) == t_two_sided_p(3 * p, dof)


@laws
@given(tails, tails, dofs)
def test_quantile_rises_with_p(one, other, dof):
    low, high = sorted((one, other))
    # Neighbours may differ by the last bits of the iteration.
    assert t_quantile(low, dof) <= t_quantile(high, dof) * (1 - 1e-13)
    if high > 1.001 * low:
        assert t_quantile(low, dof) < t_quantile(high, dof) < 0


@laws
@given(st.floats(0.501, 0.9999), dofs, st.floats(1.01, 10))
def test_fewer_degrees_of_freedom_have_longer_tails(p, dof, times):
    assert t_quantile(p, dof) > t_quantile(p, dof * times)


def test_edges():
    assert t_quantile(0.5, 3) == 0
    assert t_two_sided_p(0, 3) == 1
    assert t_two_sided_p(math.inf, 3) == t_two_sided_p(-math.inf, 3) == 0


@pytest.mark.parametrize("dof", [0.0, -1.0, math.nan, math.inf])
def test_degrees_of_freedom_are_a_positive_number(dof):
    with pytest.raises(ValueError, match="degrees of freedom"):
        t_quantile(0.9, dof)
    with pytest.raises(ValueError, match="degrees of freedom"):
        t_two_sided_p(1.0, dof)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, math.nan])
def test_quantile_needs_a_probability(p):
    with pytest.raises(ValueError, match="0 < p < 1"):
        t_quantile(p, 5)


def test_undefined_statistic_has_no_p():
    with pytest.raises(ValueError, match="NaN"):
        t_two_sided_p(math.nan, 5)


def test_pooled_dof_of_equal_estimates_is_their_sum():
    assert pooled_dof([2.0, 2.0, 2.0], [10.0, 10.0, 10.0]) == pytest.approx(30)


def test_pooled_dof_of_one_estimate_beside_sure_ones():
    assert pooled_dof([0.0, 3.0], [50.0, 7.0]) == pytest.approx(7)


def test_pooled_dof_without_any_scatter():
    assert pooled_dof([0.0, 0.0], [5.0, 7.0]) == 12


@laws
@given(st.lists(st.tuples(st.floats(1e-6, 1e6), st.floats(1, 1e4)), min_size=1, max_size=6))
def test_pooled_dof_lies_between_the_least_and_the_sum(estimates):
    variances, each = zip(*estimates, strict=True)
    pooled = pooled_dof(variances, each)
    assert min(each) * (1 - 1e-9) <= pooled <= sum(each) * (1 + 1e-9)
