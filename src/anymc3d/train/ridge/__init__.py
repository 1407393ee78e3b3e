"""Linear classifiers in closed form: ridge regression on targets, then a small map from its scores to logits."""
