"""Rehearsing a scale: what its tables consist of, what a step of each kind costs on this machine, and the hours that follow.

`work` says which trainings, searches, predictions and attacks a cell of a table needs; `kinds` runs a few steps of each kind at full size;
`hours` adds them up. `python -m rtalib plan --rehearse` does all three.
"""
