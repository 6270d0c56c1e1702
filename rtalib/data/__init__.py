"""Images at rest: LabeledImages, and load_dataset, which reads every kind of data set."""

from rtalib import lazily

__getattr__, __dir__ = lazily(
    __name__,
    {
        "images": "LabeledImages balanced concat pixels soft_labels",
        "loading": "load_dataset root_folder find_cifar10",
    },
)
