"""PanDx, the two-stage system for pancreatic cancer: nnU-Net draws, and what is here makes of it a patient's score."""
