"""The time that the end of a run takes, kept free for it: writing the plugin and its tables, answering the test split.

What one case of the test split costs is not known before the blend is: counted are its reading and the dearest members
that a blend could have by now.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SAFETY = 1.3
"""Factor on what answering is expected to take: a program that answers loads its backbone first."""
UNMEASURED_WRITING_S = 3.0
"""Before anything was written."""
MOST_FOR_TEST = 0.4
"""Of the time that is left at the beginning: a test split that takes more, with the first sight, is left out."""


@dataclass(eq=False)
class Reserve:
    """``cases``: of the test split that will be answered; ``read_s``: of one of them; ``members``: what may be a member
    of the blend -> seconds that it takes for one case besides reading; ``most``: members of a blend."""

    most: int
    cases: int = 0
    read_s: float = 0.0
    members: dict[str, float] = field(default_factory=dict)
    writing_s: float = UNMEASURED_WRITING_S
    measured_at: int = 0
    """Candidates, when the writing was measured."""

    def wrote(self, seconds: float, candidates: int) -> None:
        """Note how long it took; choosing among more candidates takes longer."""
        self.writing_s, self.measured_at = seconds, candidates

    def case_s(self, further: float = 0.0) -> float:
        """Seconds of one test case; ``further``: of a member that is thought of."""
        return self.read_s + sum(sorted([*self.members.values(), further])[-self.most :])

    def test_s(self, further: float = 0.0) -> float:
        """Seconds of all test cases."""
        return SAFETY * self.cases * self.case_s(further)

    def seconds(self, candidates: int, further: float = 0.0) -> float:
        """Of everything after the search."""
        more = max(1.0, candidates / self.measured_at) if self.measured_at else 1.0
        return SAFETY * more * self.writing_s + self.test_s(further)
