"""Explorers: for each a pure view, which turns a state into a figure, and an `explore_...` that puts controls around it."""

from rtalib import lazily

__getattr__, __dir__ = lazily(
    __name__,
    {
        "images": "corruption_view explore_corruptions attack_view explore_attacks",
        "comparison": "magnified",
        "photos": "photographs",
        "exhibits": "",
        "sets": "ALL ORIGINALS RobustSet drawn_set mined_set pages set_view explore_set",
        "coreset": "CoreMap core_map principal_plane core_view limits explore_core compare_rules",
        "darts": "CELLS mixing_weights search_view explore_search unmatched cells_view explore_cells",
        "results": "results_view compared explore_results",
        "failures": "Review explore_failures gallery review",
        "base": "around as_html filmstrip",
    },
)
