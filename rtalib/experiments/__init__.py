"""The experiments of both papers, and those that neither has."""
