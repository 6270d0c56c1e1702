"""The ways that are faster for one larger picture on a CPU; the batched ones beside them are their specification, to the byte."""
