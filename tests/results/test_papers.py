"""The transcription against numbers that were computed from the papers' text by other means."""

import hashlib
import json

import pytest
from scipy import stats

from rtalib import papers
from rtalib.results.claims import CLAIMS
from rtalib.results.papers import CF_DARTS, CORRUPTION_LABELS, GUIDES, PUBLISHED, RTA, split_guide

# Mean of the 16 numbers of each row, in the order of the paper, from the text of CF-DARTS; the cells came from another source.
ROW_MEANS = {
    "cf-table2": [74.0212, 70.7256, 78.5956, 74.7694, 76.8606, 85.2188, 77.1919, 86.4050, 77.2706, 87.4706],
    "cf-table3": [74.0212, 77.2706, 87.4231, 72.5306, 79.05, 84.7638, 70.3513, 80.4550, 81.2769, 71.2888, 74.8325, 80.0969],
    "cf-table4": [31.6087, 32.1806, 33.4506, 32.3713, 35.6713, 33.6506, 33.9150, 31.8487, 32.4150],
    "cf-table5": [
        *(75.3506, 75.1569, 84.6788, 75.6688, 85.8662),
        *(77.6112, 77.1294, 87.8687, 77.6150, 88.9319),
        *(76.3719, 76.2406, 87.7825, 77.7106, 88.8188),
    ],
    "cf-table6": [
        *(74.0212, 76.4200, 77.5575, 76.1519, 76.3106, 76.6250, 77.1481, 75.4562, 77.6600, 77.1881, 77.1912),
        *(76.0844, 74.4919, 75.7006, 81.4363, 84.6988),
    ],
}
# Mean of each column, from the same text.
COLUMN_MEANS = {
    "cf-table2": (
        95.961,
        38.314,
        61.309,
        58.736,
        87.461,
        65.87,
        84.308,
        82.742,
        87.488,
        84.49,
        91.599,
        94.189,
        84.428,
        87.395,
        76.749,
        80.608,
    ),
    "cf-table5": (
        *(97.2367, 40.234, 65.8753, 64.792, 87.3827, 70.586, 84.5927, 81.8747),
        *(90.052, 86.3993, 92.5727, 96.1067, 85.5493, 89.416, 77.47, 83.5153),
    ),
}
# Digests of all numbers of a table, and of what its claims compare: to change one is to change a published number, or a question.
NUMBERS = {
    "rta-table1": "1d8ba9e3",
    "rta-table2": "fbdd77d7",
    "rta-table3": "f4cce06a",
    "rta-table4": "eacae1a0",
    "rta-counts": "dc6b38b4",
    "rta-selection": "0590a859",
    "rta-candidates": "60f5cae9",
    "cf-table1": "308ec356",
    "cf-table2": "42d55afe",
    "cf-table3": "c85c5758",
    "cf-table4": "1166879a",
    "cf-table5": "74b23c3e",
    "cf-table6": "f1449b05",
    "cf-table7": "d2cf5e1a",
    "cf-figure4": "e3480007",
}
COMPARED = {
    "rta-table1": (10, "77d471ea"),
    "rta-table2": (4, "c84b9506"),
    "rta-table3": (3, "81676983"),
    "rta-table4": (2, "66f14d57"),
    "cf-table1": (4, "501608fd"),
    "cf-table2": (32, "18e86153"),
    "cf-table3": (20, "17cbf995"),
    "cf-table4": (24, "de1647e2"),
    "cf-table5": (18, "7180799d"),
    "cf-table6": (11, "60c98ddd"),
    "cf-table7": (0, "4f53cda1"),
    "cf-figure4": (5, "a29e6218"),
    "ours-search-or-chance": (4, "ee110cb2"),
    "ours-together": (8, "1f12fe36"),
    "ours-gain-parts": (9, "98153c32"),
    "ours-own-starts": (9, "ac72f1a4"),
    "ours-severity-budget": (6, "52e81fb3"),
    "ours-coverage": (3, "857d7733"),
    "ours-neighbours": (2, "60d2324a"),
}
STD_MEANS = [1.8900, 1.9456, 1.1587, 1.1869, 0.6344, 1.3287, 1.1081, 1.1775, 1.1675]


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:8]


def test_no_published_number_and_no_claim_has_changed():
    def numbers(table):
        conflicts = [[conflict.method, conflict.column, conflict.printed, conflict.other] for conflict in table.conflicts]
        return [table.columns, table.rows, table.std, table.settings, table.unit, table.runs, conflicts]

    def compared(claims):
        return [[claim.id, claim.better, claim.worse, claim.metric, claim.margin] for claim in claims]

    assert {id: digest(numbers(table)) for id, table in PUBLISHED.items()} == NUMBERS
    assert {table: (len(claims), digest(compared(claims))) for table, claims in CLAIMS.items()} == COMPARED
    assert sum(len(claims) for claims in CLAIMS.values()) == 174


@pytest.mark.parametrize("table", ROW_MEANS)
def test_rows_agree_with_the_paper(table):
    rows = PUBLISHED[table].rows.values()
    assert all(len(row) == 16 for row in rows)
    assert [sum(row.values()) / 16 for row in rows] == pytest.approx(ROW_MEANS[table], abs=6e-5)


@pytest.mark.parametrize("table", COLUMN_MEANS)
def test_columns_agree_with_the_paper(table):
    published = PUBLISHED[table]
    means = [sum(row[column] for row in published.rows.values()) / len(published.rows) for column in published.columns]
    assert means == pytest.approx(COLUMN_MEANS[table], abs=6e-5)


def test_deviations_agree_with_the_paper():
    std = CF_DARTS["table2"].std
    assert list(std) == list(CF_DARTS["table2"].rows)[1:]  # Org. DNN has none
    assert [sum(row.values()) / 16 for row in std.values()] == pytest.approx(STD_MEANS, abs=6e-5)


def test_corruption_names_are_the_library_s():
    corruptions = pytest.importorskip("rtalib.corruptions")
    assert tuple(CORRUPTION_LABELS) == tuple(corruptions.CORRUPTIONS)
    assert list(papers.FAMILIES) == ["noise", "blur", "weather", "digital"]
    assert [len(members) for members in papers.FAMILIES.values()] == [3, 4, 4, 4]
    assert set(GUIDES.values()) <= set(CORRUPTION_LABELS)


def test_accuracies_imply_the_failure_counts_known_of_the_original_network():
    row = CF_DARTS["table3"].rows["gb: Org. DNN"] | {"glass_blur": CF_DARTS["table2"].rows["Org. DNN"]["glass_blur"]}
    failures = {name: round(50_000 * (1 - row[name] / 100)) for name in CORRUPTION_LABELS}
    assert [failures[name] for name in ("gaussian_noise", "shot_noise", "glass_blur", "fog")] == [33_710, 27_410, 21_785, 4_350]
    assert papers.derived(row, "mean") == pytest.approx(74.71, abs=0.005)


def test_repeated_rows_are_equal_between_tables():
    two, three, six = (CF_DARTS[f"table{n}"].rows for n in (2, 3, 6))
    shared = [column for column in two["CF-DARTS"] if column != "fail"]
    for method in ("Org. DNN", "CF-DARTS", "CF-DARTSE"):
        assert all(two[method][column] == three[f"gn: {method}"][column] for column in shared)
    assert two["Org. DNN"] == six["Org. DNN"]
    for size, column in (("10³", 1000), ("5×10³", 5000), ("10⁴", 10000)):
        first = CF_DARTS["table1"].rows[f"DARTS-{size} GN"]
        assert {name: six[f"RF-DARTS({column})"][name] for name in ("clean", "fail")} == {name: first[name] for name in ("clean", "fail")}


def test_every_conflict_names_a_printed_cell():
    for published in PUBLISHED.values():
        for conflict in published.conflicts:
            assert published.rows[conflict.method][conflict.column] == conflict.printed
    noted = {(c.method, c.column): c.other for c in CF_DARTS["table3"].conflicts}
    assert noted == {("gn: CF-DARTSE", "fail"): 87.77, ("fg: CF-DARTS", "fail"): None}


def test_time_table_adds_up():
    rows, std = CF_DARTS["table7"].rows, CF_DARTS["table7"].std["CF-DARTS"]
    hours = rows["CF-DARTS"]
    assert hours["selection"] + hours["search"] + hours["retraining"] == pytest.approx(hours["total"], abs=0.0001)
    for part, ratio in rows["CF-DARTS: ratio (%)"].items():
        assert ratio == pytest.approx(100 * hours[part] / hours["total"], abs=0.08)
    assert std == {"total": 1.5049, "selection": 0.0314, "search": 0.0935, "retraining": 1.4598}


def test_rta_tables_chain():
    tables = [list(RTA[f"table{n}"].rows.values()) for n in (1, 2, 3, 4)]
    assert [len(rows) for rows in tables] == [8, 6, 4, 3]
    assert tables[0][-1] == tables[1][0] == {"score": 98.58}
    assert tables[1][-1] == tables[2][0] == {"score": 98.93}
    assert [row["score"] for row in tables[0]] == sorted(row["score"] for row in tables[0])
    assert tables[3] == [{"score": 99.59, "rank": 2.0}, {"score": 82.53}, {"score": 83.32, "rank": 10.0}]
    assert RTA["table2"].settings["LS 0.1, WD 5e-4"] == {"label_smoothing": "0.1", "weight_decay": "5e-4"}


def test_authors_counts_agree_with_their_accuracies():
    last = RTA["counts"].rows["40,000"]
    for model in ("wide_resnet28_4", "preact_resnet18"):
        candidates = [row[model] for row in RTA["candidates"].rows.values()]
        assert sum(candidates) / 16 == pytest.approx(100 * (1 - last[model] / 160_000), abs=0.05)
    assert sum(row["images"] for row in RTA["selection"].rows.values()) == 10_000


def test_claims_name_printed_rows_or_controls():
    ids = [claim.id for claims in CLAIMS.values() for claim in claims]
    assert len(ids) == len(set(ids))
    for table, claims in CLAIMS.items():
        for claim in claims:
            assert table == f"{claim.paper}-{claim.table}"
            if table not in PUBLISHED or not PUBLISHED[table].rows:  # ours, and a figure of which no number is printed
                continue
            for method in (claim.better, claim.worse):
                known = method in PUBLISHED[table].rows or split_guide(method)[1] in PUBLISHED[table].rows
                assert known or claim.text.startswith("Control:") or "(retrained)" in method or claim.id == "rta4.2", claim


def test_welch_on_the_printed_spread():
    """CF-DARTS above RF-DARTS is not significant on the paper's own numbers (t = 0.74), CF-DARTSE above RF-DARTSE is (t = 4.3)."""
    table = CF_DARTS["table2"]
    for better, worse, t in (("CF-DARTS", "RF-DARTS", 0.74), ("CF-DARTS", "AU-DARTS", 0.43), ("CF-DARTSE", "RF-DARTSE", 4.3)):
        found = stats.ttest_ind_from_stats(
            table.value(better, "fail"),
            table.std[better]["fail"],
            table.runs,
            table.value(worse, "fail"),
            table.std[worse]["fail"],
            table.runs,
            equal_var=False,
        )
        assert found.statistic == pytest.approx(t, abs=0.05)


def test_wins_counted_by_hand():
    two, five, six = CF_DARTS["table2"], CF_DARTS["table5"], CF_DARTS["table6"]
    others = [name for name in CORRUPTION_LABELS if name != "gaussian_noise"]
    assert sum(two.value("CF-DARTSE", name) < two.value("AU-DARTSE", name) for name in others) == 9
    assert two.value("CF-DARTSE", "others") == pytest.approx(86.74, abs=0.005)
    assert two.value("AU-DARTSE", "others") == pytest.approx(86.29, abs=0.005)
    assert [five.value(method, "others") for method in ("PCDARTS", "CF-PCDARTS")] == pytest.approx([79.19, 78.58], abs=0.006)
    sizes = (1000, 5000, 10000, 15000, 20000)
    won = [sum(six.value(f"CF-DARTS({b})", c) > six.value(f"RF-DARTS({b})", c) for c in six.columns) for b in sizes]
    assert won == [10, 8, 7, 15, 4]


def test_unknown_table_is_named():
    with pytest.raises(ValueError, match="Did you mean 'cf-table2'"):
        papers.get("cf-tabel2")
