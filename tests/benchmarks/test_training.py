from benchmarks import training
from rtalib import load_dataset


def test_a_row_says_what_was_trained_on_what_and_how_long():
    data, test = load_dataset("shapes10", "train", limit=60), load_dataset("shapes10", "test", limit=40)
    row = training.measure("speedrun:tiny:2:50", 3, "fp32", data, test)
    assert set(row) == set(training.FIELDS)
    expected = {"recipe": "speedrun", "network": "tiny", "epochs": 2, "images": 50, "passes": 100, "seed": 3, "precision": "fp32"}
    assert expected.items() <= row.items() and row["test_images"] == 40
    assert 0 <= row["accuracy"] <= 100 and row["cpu_seconds"] > 0
    again = training.measure("speedrun:tiny:2:50", 3, "fp32", data, test)
    assert (again["accuracy"], again["loss"]) == (row["accuracy"], row["loss"])
    assert training.measure("fast:tiny:2", 3, "fp32", data, test)["images"] == 60
    assert training.LINE.format(**row).startswith("speedrun  tiny           2 epochs of 50 fp32 seed 3")
