"""Leave one site out, from the command that makes the folds to the figures of each site."""

from __future__ import annotations

import pytest

from anymc3d.cli.main import main
from anymc3d.files.tables import read_table, write_table

SITES = ("north", "south")


@pytest.fixture
def sites(journey, tmp_path):
    """The first twelve cases of the journey, two scans a patient, each patient of one site."""
    rows = read_table(journey.data / "manifest.csv")[:12]
    for index, row in enumerate(rows):
        row |= {"image": str(journey.data / row["image"]), "patient": f"p{index // 2}", "site": SITES[index // 2 % 2]}
    write_table(tmp_path / "manifest.csv", list(rows[0]), rows)
    return tmp_path / "manifest.csv"


def test_every_site_is_predicted_by_a_model_that_saw_only_the_others(journey, sites, tmp_path, capsys):
    new, run, out = tmp_path / "sites.csv", tmp_path / "run", tmp_path / "figures"
    assert main(["data", "split", str(sites), "-o", str(new), "--leave-site-out", "site", "--labels", "block"]) == 0
    assert "--folds 2" in capsys.readouterr().out
    words = ["train", str(journey.task), "-o", str(run), "--folds", "2", "--device", "cpu", "--quiet"]
    assert main([*words, f"data.manifest={new}", "train.epochs=1"]) == 0
    site_of = {row["case"]: row["site"] for row in read_table(new)}
    assert {row["case"]: row["fold"] for row in read_table(run / "oof.csv")} == site_of
    for number, site in enumerate(SITES):
        for row in read_table(run / f"fold_{number}" / "manifest.csv"):
            assert (row["split"] == "test") == (site_of[row["case"]] == site)
    per_fold = {row["group"] for row in read_table(run / "metrics.csv") if row["metric"] == "auroc"}
    assert per_fold == {"all", "fold=north", "fold=south"}
    assert main(["evaluate", str(run / "oof.csv"), str(new), "-o", str(out), "--groups", "site", "--quiet"]) == 0
    rows = [row for row in read_table(out / "metrics.csv") if row["metric"] == "auroc"]
    assert {row["group"]: row["n"] for row in rows} == {"all": "12", "site=north": "6", "site=south": "6"}
