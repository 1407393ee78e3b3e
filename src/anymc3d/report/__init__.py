"""Self-contained HTML reports of one study, and of one training run or evaluation."""

from anymc3d.callable import answer_calls

answer_calls(__name__)
