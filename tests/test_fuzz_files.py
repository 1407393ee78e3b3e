"""F4, A11: a few random changes of plugins and task files; ``fuzz_files.py`` tries as many as it is asked to."""

import pytest

from fuzz_bench import make_bench
from fuzz_files import try_card, try_task

CARDS, TASKS = 12, 12


@pytest.fixture(scope="module")
def bench(journey, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    made = make_bench(folder / "bench", journey.plugin, journey.task)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        yield made


def test_F4_changed_plugins_end_in_a_clean_error_or_a_right_answer(bench):
    assert {try_card(bench, number) for number in range(CARDS)} >= {"answered", "refused"}


def test_A11_changed_task_files_end_in_a_clean_error_or_are_as_they_say(bench):
    assert {try_task(bench, number) for number in range(TASKS)} >= {"would be trained", "refused"}
