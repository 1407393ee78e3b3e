"""Training what needs no network: numbers of every case, and a linear head on them in closed form."""
