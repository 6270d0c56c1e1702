"""What runs the experiments: the store, the grid, the notebooks, and where a number comes from."""
