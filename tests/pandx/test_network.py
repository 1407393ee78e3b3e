"""The count of nnU-Net's network for PanDx, and how PanDx stands in the table of methods."""

from dataclasses import replace

from anymc3d.pandx.network import HIGH_RESOLUTION, METHOD, Plan


def test_the_count_is_that_of_nnu_nets_own_library():
    # PlainConvUNet of dynamic-network-architectures (Apache-2.0) with this plan has 30,707,523 parameters.
    assert HIGH_RESOLUTION.num_parameters == 30_707_523
    assert METHOD["trainable_parameters"] == METHOD["total_parameters"] == 30_707_523


def test_a_plan_of_one_stage_by_hand():
    plan = Plan(widths=(2, 3), kernels=((3, 3, 3), (3, 3, 3)), strides=((1, 1, 1), (2, 2, 2)), classes=5)
    down = (27 * 2 + 2 + 4) + (2 * 2 * 27 + 2 + 4) + (2 * 3 * 27 + 3 + 6) + (3 * 3 * 27 + 3 + 6)
    up = (3 * 2 * 8 + 2) + (4 * 2 * 27 + 2 + 4) + (2 * 2 * 27 + 2 + 4) + (2 * 5 + 5)
    assert plan.num_parameters == down + up
    assert replace(plan, channels=2).num_parameters == down + up + 27 * 2


def test_the_table_says_who_trains_it():
    assert set(METHOD) == {
        "name",
        "trainable_parameters",
        "total_parameters",
        "weights",
        "licence",
        "citation",
        "left_out",
    }
    assert "by the user with nnU-Net" in METHOD["weights"]
