"""From numbers to two plain answers: would more data help, and is training with LoRA worth it.

Rules, not opinions: docs/quick.md states them, each answer says what it rests on, and "cannot tell" is an answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from anymc3d.train.quick.curve import Curve, Estimate

WORTH = 0.01
"""AUROC that is worth collecting cases for; a smaller gain by twice the cases counts as none."""
LITTLE_ROOM = 0.02
"""AUROC left to 1.0 below which no method can add a noticeable gain."""
CLOSE_FIT = 0.03
"""A head that is no more than so much better on its own training cases is held back by its features."""
PUBLISHED = "the paper's LoRA plug-ins gained 0.11 AUROC over frozen features on the average of ten tasks"

CANNOT_TELL = "cannot tell"
LIKELY, UNLIKELY = "likely to help", "unlikely to help"
TRY, NO_ROOM = "worth trying", "not worth it"


@dataclass(frozen=True)
class Verdict:
    """``answer``: one of a few fixed phrases; ``because``: what it rests on, in one or two sentences."""

    answer: str
    because: str


@dataclass(frozen=True)
class Scored:
    """What the numbers are of, and its value where nothing is known."""

    name: str = "AUROC"
    chance: float = 0.5


AUROC = Scored()


def more_data(auroc: Estimate, curve: Curve, scored: Scored = AUROC) -> Verdict:
    """Whether twice the cases of the same kind would raise the AUROC (or what is ``scored``) of the frozen method."""
    if _is_chance(auroc, scored):
        return Verdict(CANNOT_TELL, f"{_chance(auroc, scored)}; a curve of chance says nothing about more cases")
    if _has_no_room(auroc):
        return Verdict(UNLIKELY, f"only {_room(auroc):.3f} is left between the {scored.name} and 1")
    if curve.gain is None or curve.gain.doubling.low is None:
        reasons = [point.reason for point in curve.points if point.reason]
        return Verdict(CANNOT_TELL, f"there is no learning curve: {reasons[0] if reasons else 'too few cases'}")
    gain = curve.gain.doubling
    change = (
        f"twice the cases would change the {scored.name} by {signed(gain)} by the fitted curve{_other_forms(curve)}"
    )
    if gain.low > 0 and gain.value >= WORTH:
        return Verdict(LIKELY, change)
    if gain.high < WORTH:
        return Verdict(UNLIKELY, f"{change}, less than {WORTH}")
    return Verdict(CANNOT_TELL, f"{change}: these cases allow both a useful gain (from {WORTH}) and none")


def lora(auroc: Estimate, train_auroc: float | None, data: Verdict, scored: Scored = AUROC) -> Verdict:
    """Whether training the backbone's LoRA is worth the time; no LoRA was trained to answer this."""
    if _is_chance(auroc, scored):
        because = "look at labels, views and windows first; other features may still find something"
        return Verdict(CANNOT_TELL, f"{_chance(auroc, scored)}: {because}. {_rests()}")
    left = f"{_room(auroc):.3f} is left between the frozen method's {scored.name} and 1"
    if _has_no_room(auroc):
        return Verdict(NO_ROOM, f"only {left}. {_rests()}")
    if data.answer == UNLIKELY:
        because = f"{left}, and more cases would not fill it: the frozen features or the labels are the limit"
        return Verdict(TRY, f"{because}, and LoRA changes the features. {_rests()}")
    if train_auroc is not None and train_auroc - auroc.value < CLOSE_FIT:
        because = f"{left}, and the head is hardly better on its own training cases ({train_auroc:.3f})"
        return Verdict(TRY, f"{because}: the features are the limit, and LoRA changes them. {_rests()}")
    because = f"{left}; the head fits its own training cases better"
    because += f" ({train_auroc:.3f})" if train_auroc is not None else ""
    because += ", so the number of cases may be the limit as well as the features"
    known = f"; {PUBLISHED}" if scored == AUROC else ""
    return Verdict(CANNOT_TELL, f"{because}{known}. {_rests()}")


def _other_forms(curve: Curve) -> str:
    """How much depends on the form of the curve, which the data do not show."""
    gains = curve.gain.by_exponent.values() if curve.gain is not None else ()
    return f", {min(gains):+.3f} to {max(gains):+.3f} by curves of other forms" if gains else ""


def signed(gain: Estimate) -> str:
    """``+0.012 (95 % interval -0.003 to +0.027)``."""
    if gain.value is None:
        return "an unknown amount"
    if gain.low is None:
        return f"{gain.value:+.3f}"
    return f"{gain.value:+.3f} (95 % interval {gain.low:+.3f} to {gain.high:+.3f})"


def _is_chance(auroc: Estimate, scored: Scored) -> bool:
    chance = scored.chance
    return auroc.value is None or (auroc.low is not None and auroc.low <= chance) or auroc.value <= chance


def _room(auroc: Estimate) -> float:
    return 1.0 if auroc.value is None else 1 - auroc.value


def _has_no_room(auroc: Estimate) -> bool:
    return _room(auroc) < LITTLE_ROOM


def _chance(auroc: Estimate, scored: Scored) -> str:
    if auroc.value is None:
        return f"the {scored.name} is undefined"
    answering = "rank these cases" if scored == AUROC else "answer"
    return f"the frozen features do not {answering} surely better than chance ({scored.name} {auroc.value:.3f})"


def _rests() -> str:
    return "No LoRA was trained to answer this; only a training run can show it"
