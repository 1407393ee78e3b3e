"""What a run knows so far, and what it has decided."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anymc3d.automl.candidates import Candidate, simplest_first
from anymc3d.automl.clock import Clock, Pace
from anymc3d.automl.compare import Value
from anymc3d.automl.data import AutoData
from anymc3d.automl.estimate import Scored, score
from anymc3d.automl.folder import AutoFolder, Remembered
from anymc3d.automl.lora import TrainedFold
from anymc3d.automl.numbers import Reader
from anymc3d.automl.reserve import Reserve
from anymc3d.automl.settings import AutoSettings
from anymc3d.automl.sights import Sight
from anymc3d.settings.config import TaskSettings

logger = logging.getLogger(__name__)

BEAT_S = 5.0


@dataclass(eq=False)
class Work:
    """What a run knows so far."""

    folder: AutoFolder
    settings: AutoSettings
    clock: Clock
    remembered: Remembered
    data: AutoData
    reader: Reader
    planned: dict[tuple[str, str], TaskSettings]
    scored: list[Scored] = field(default_factory=list)
    trained: list[TrainedFold] = field(default_factory=list)
    """Of all outer folds, or none."""
    training_s: float = 0.0
    answered: int = 0
    """Candidates in the answer that is in the folder."""
    notes: list[str] = field(default_factory=list)
    fits: Pace = field(default_factory=Pace)
    sites: dict[str, Any] | None = None
    test: tuple[Value, list[Mapping[str, Any]]] | None = None
    paces: dict[str, Pace] = field(
        default_factory=lambda: {name: Pace() for name in ("read", "pass", "answer read", "answer pass")}
    )
    """Reading by views and passes by patches; ``answer``: as a prediction takes them, without caches."""
    regions_are_drawn: bool = False
    """Whether the regions that a network or program draws are in the store, of all cases."""
    reserve: Reserve = field(default_factory=lambda: Reserve(AutoSettings.most_members))

    @property
    def task(self) -> TaskSettings:
        """As planned without further wishes."""
        return self.planned["own", "whole"]

    def tokens(self, sight: Sight) -> float:
        """What a pass of the backbone over one case of a sight costs, in patches, as the main one would."""
        return sight.tokens(self.reader.backbone(sight.task.backbone.name).module.patch_size)

    def answer_s(self, sight: Sight) -> float:
        """Seconds that a member of this sight takes to answer one case, besides reading its file."""
        return self.paces["answer read"].of(len(sight.views)) + self.paces["answer pass"].of(self.tokens(sight))

    def ends_by(self, share: float, further: float = 0.0) -> float:
        """The second of the budget by which a step must have ended: when ``share`` of it is spent, but early enough for
        the files and the test split. ``further``: seconds of a test case that the step would add."""
        return min(share * self.clock.total_s, self.clock.total_s - self.reserve.seconds(len(self.scored), further))

    def left_s(self, share: float, further: float = 0.0) -> float:
        """Seconds until then; below 0 when it is over."""
        return self.ends_by(share, further) - self.clock.spent_s

    def measured(self, what: str, seconds: float) -> float:
        """Seconds of a step as they were measured when it was first made, also by an earlier run."""
        return float(self.remembered.decided.setdefault(f"seconds: {what}", seconds))

    def keep(self, *, finished: bool = False) -> None:
        """Remember the seconds and decisions."""
        self.remembered.write(self.clock.spent_s, finished=finished)

    def beat(self) -> None:
        """Remember the seconds now and then, so that those before a kill count."""
        if self.clock.spent_s - self.remembered.spent_s > BEAT_S:
            self.keep()

    def decide(self, what: str, goes: bool) -> bool:
        """Whether a step is made: as an earlier run of the same command decided, otherwise ``goes``."""
        decided = bool(self.remembered.decided.setdefault(what, goes))
        self.keep()
        return decided

    def decided_share(self, what: str, share: float) -> float:
        """A share of something: as an earlier run of the same command decided, otherwise ``share``."""
        decided = float(self.remembered.decided.setdefault(what, share))
        self.keep()
        return decided

    def note(self, text: str) -> None:
        """Say a thing once, on the terminal and in the report."""
        if text not in self.notes:
            self.notes.append(text)
            logger.info("%s", text)

    def score(self, candidates: Sequence[Candidate]) -> None:
        """Fit candidates in every outer fold, and keep what they say."""
        for candidate in candidates:
            started = self.clock.spent_s
            scored = score(candidate, self.data.pool)
            took = self.clock.spent_s - started
            candidate.seconds += took
            self.fits.measured(took, 1)
            self.scored.append(scored)
        self.keep()

    def in_order(self) -> list[Scored]:
        """What was scored, the simplest first."""
        places = {
            id(candidate): place for place, candidate in enumerate(simplest_first([s.candidate for s in self.scored]))
        }
        return sorted(self.scored, key=lambda entry: places[id(entry.candidate)])
