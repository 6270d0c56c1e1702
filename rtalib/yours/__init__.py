"""What one does with one's own network and pictures: a robustness card, a gate, a robust data set."""
