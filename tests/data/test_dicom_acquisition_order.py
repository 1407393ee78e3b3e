"""Volumes in the order of numbers: right or refused, whatever slices are lost."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from anymc3d.data.dicom.acquisition_order import volumes_in_order


@dataclass
class Slice:
    number: int
    tags: dict[str, str] = field(default_factory=dict)


ORDERS = {
    "upwards": lambda places: places,
    "downwards": lambda places: places[::-1],
    "every other one first": lambda places: places[::2] + places[1::2],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("place_by_place", [False, True])
def test_slices_of_two_volumes_are_never_joined_and_most_losses_are_borne(order: str, place_by_place: bool) -> None:
    draw, right, tried = random.Random(7), 0, 0
    for _ in range(700):
        count, volumes, before = draw.randint(4, 9), draw.randint(2, 5), draw.choice([0, 0, -1, draw.randint(1, 50)])
        taken = ORDERS[order](list(range(count)))
        slices = [
            (place, volume, 1 + before + (rank * volumes + volume if place_by_place else volume * count + rank))
            for volume in range(volumes)
            for rank, place in enumerate(taken)
        ]
        lost = set(draw.sample(slices, draw.randint(1, 4)))
        kept = draw.sample([one for one in slices if one not in lost], len(slices) - len(lost))
        places = [tuple(i for i, one in enumerate(kept) if one[0] == place) for place in range(count)]
        places = [place for place in places if place]
        if max(map(len, places)) == 1:
            continue  # one volume, for all that can be known
        groups, name = volumes_in_order([Slice(number) for _, _, number in kept], places)
        tried += 1
        if groups:
            right += 1
            of_group = [{kept[i][1] for i in group} for group in groups]
            assert all(len(of) == 1 for of in of_group) and name == "InstanceNumber"
            assert sorted(of_group, key=min) == of_group and len(set.union(*of_group)) == len(groups)
    assert right > tried / 2 or order == "every other one first"


@pytest.mark.parametrize(
    ("lost", "is_right"),
    [
        ({(0, 0), (1, 1), (2, 1), (3, 1), (4, 0), (5, 2)}, False),
        ({(place, 1) for place in range(6)}, True),
        (set(), True),
    ],
)
def test_a_slice_less_at_every_place_is_one_volume_less_or_refused(lost: set[tuple[int, int]], is_right: bool) -> None:
    kept = [(place, volume) for volume in range(3) for place in range(6) if (place, volume) not in lost]
    places = [tuple(i for i, (at, _) in enumerate(kept) if at == place) for place in range(6)]
    groups, _ = volumes_in_order([Slice(1 + 6 * volume + place) for place, volume in kept], places)
    assert bool(groups) == is_right
    assert all(len({kept[i][1] for i in group}) == 1 for group in groups)
