"""The experiments of both papers, and those that neither has."""

# "disjoint": no base image of the evaluation is trained on or is a failure; "paper": as published, with test images in both.
PROTOCOLS = ("disjoint", "paper")
