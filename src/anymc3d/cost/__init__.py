"""What computing costs: memory, energy, and on which device. One definition for training and prediction."""
