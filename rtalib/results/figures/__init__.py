"""Figures of rows, of arrays and of cells, in one style."""

from rtalib import lazily

__getattr__, __dir__ = lazily(
    __name__,
    {
        "rows": "short_name foot score_bars proxy_parts difference_bars corruption_dots accuracy_curves severity_curves",
        "arrays": "heat show_pixels alpha_heatmap image_grid transfer_heatmap difference_dots severity_gallery selection_map",
        "cells": "HasCells draw_cell used circuit",
        "style": "Drawing use_style figure place colour save describe",
    },
)
