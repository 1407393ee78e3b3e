"""Shared by the tests of training: one nursery of processes."""

import pytest
from killing import Nursery


@pytest.fixture(scope="session")
def nursery(home):
    nursery = Nursery()
    yield nursery
    nursery.close()
