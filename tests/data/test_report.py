from recsys_fast.data import CleaningReport, Step


def test_counts_add_up_by_name() -> None:
    report = CleaningReport((Step("missing", 3), Step("k_core", 4, 1, 2, "a note"))).plus(Step("missing", 2))
    assert report["missing"] == 5
    assert report["k_core"] == 4
    assert report["never ran"] == 0
    assert report.dropped == 9
    assert report.to_dict() == {"missing": 5, "k_core": 4}
    assert len(report) == 3
    assert [step.name for step in report] == ["missing", "k_core", "missing"]


def test_plus_leaves_the_old_report_alone() -> None:
    report = CleaningReport()
    longer = report.plus(Step("a", 1))
    assert len(report) == 0
    assert report != longer
    assert longer == CleaningReport((Step("a", 1),))
    assert hash(longer) == hash(CleaningReport((Step("a", 1),)))


def test_prints_as_a_table() -> None:
    assert str(CleaningReport()) == "nothing dropped"
    lines = str(CleaningReport((Step("k_core", 12345, 1, 2, "3 rounds"),))).splitlines()
    assert len(lines) == 2
    assert lines[1].split() == ["k_core", "-12,345", "-1", "-2", "3", "rounds"]
    assert repr(CleaningReport((Step("a", 7),))) == "CleaningReport(steps=1, dropped=7)"
