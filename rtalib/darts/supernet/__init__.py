"""The supernet of a search: the plain one, the fused one that computes the same in fewer calls, and partial channels."""
