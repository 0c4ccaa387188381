"""How a trained model fares when its input is worse than what it was trained on."""
