"""Figures of rows, of arrays and of cells, in one style."""

from rtalib import lazily

__getattr__, __dir__ = lazily(
    __name__,
    {
        "rows": "score_bars proxy_parts difference_bars corruption_dots accuracy_curves severity_curves",
        "samples": "short_name student tidy",
        "arrays": "heat show_pixels image_grid transfer_heatmap difference_dots severity_gallery selection_map",
        "claims": "published_against_measured",
        "cells": "HasCells draw_cell used circuit",
        "style": "Drawing use_style sheet figure place color save describe",
    },
)
