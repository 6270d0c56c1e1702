"""Networks of cells on disk: our own files, which say how to read them back, and the published ones by their own names."""
