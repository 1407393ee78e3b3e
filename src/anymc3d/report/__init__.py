"""Self-contained HTML reports of one study, and of one training run or evaluation."""
