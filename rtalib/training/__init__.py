"""Training from a recipe, and the outputs of a trained network: predictions, features, accuracy, score."""

from rtalib import lazily

__getattr__, __dir__ = lazily(
    __name__,
    {
        "loop": "train",
        ".data.images": "smooth",
        "recipes": "Recipe RECIPES resolve_precision",
        "validation": "Validation",
        ".models.inference": "evaluate evaluating extract_features predict score scores",
    },
)
