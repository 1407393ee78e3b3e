"""Smooth random fields."""

import numpy as np
from scipy.interpolate import BSpline

from anymc3d.demo.fields import smooth_field


def test_a_field_is_a_cubic_b_spline_of_its_coefficients():
    cells, size = 4, 33
    field = smooth_field((size,), cells, np.random.default_rng(3))
    coefficients = np.random.default_rng(3).standard_normal(cells + 3).astype(np.float32)
    theirs = BSpline(np.arange(-3, cells + 4), coefficients, 3)(np.linspace(0, cells, size))
    ratio = field / theirs
    assert np.allclose(ratio, ratio[0], rtol=1e-4)


def test_fields_have_mean_0_and_spread_about_1_in_any_shape():
    fields = np.stack([smooth_field((20, 24, 18), 5, np.random.default_rng(seed)) for seed in range(40)])
    assert fields.shape == (40, 20, 24, 18)
    assert abs(fields.mean()) < 0.1
    assert 0.8 < fields.std() < 1.2
