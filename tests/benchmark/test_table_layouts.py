"""Every layout, format and picture of a small table of results; what was not run is a dash."""

from __future__ import annotations

import csv
import html.parser
import io
import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import rankdata
from small_results import METHODS, write_small_results

from anymc3d.benchmark.figures import FIGURES, draw_figure, draw_parameters, look_of
from anymc3d.benchmark.paper_numbers import SEVERITY, VERSIONS
from anymc3d.benchmark.tables.grid import EMPTY, FORMATS, Grid, render
from anymc3d.benchmark.tables.main import rank
from anymc3d.benchmark.tables.rows import read_results
from anymc3d.benchmark.tables.table import LAYOUTS, make_table
from anymc3d.cli.main import main
from anymc3d.errors import UsageError
from anymc3d.files.tables import read_table, write_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small_results(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def results(folder):
    return read_results(folder)


def line(grid, *names):
    (found,) = [row for row in grid.rows if all(name in row for name in names)]
    return dict(zip(grid.columns, found, strict=True))


def test_the_main_table_has_every_cost_that_was_measured(results):
    plain = line(make_table(results, "main"), "frozen")
    assert (plain["trainable"], plain["total"]) == ("0.003 M", "22.00 M")
    assert (plain["training memory GB"], plain["GB / volume"]) == ("3.40", "1.15")
    assert "training kJ" not in plain, "no device told"
    rows = [row | ({"energy_joules": "65400.0"} if row["method"] == "frozen" else {}) for row in results.rows]
    told = make_table(replace(results, rows=rows), "main")
    assert (line(told, "frozen")["training kJ"], line(told, "query")["training kJ"]) == ("65.4", EMPTY)


def test_a_cost_is_the_mean_over_tasks_and_a_subset_that_waits_hides_nothing(results):
    """Kidney took twice as long; the largest subset of liver was not run yet."""
    rows = [row | ({"train_seconds_per_volume": "0.62"} if row["task"] == "kidney" else {}) for row in results.rows]
    waiting = next(row for row in rows if row["task"] == "liver" and row["method"] == "frozen")
    rows.append(
        dict.fromkeys(waiting, "")
        | {"task": "liver", "method": "frozen", "seed": "0", "train_cases": "900", "metric": "waiting"}
    )
    grid = make_table(replace(results, rows=rows), "main")
    row = line(grid, "frozen")
    assert row["training s / volume"] == f"{(0.31 + 0.62) / 2:.2f}"
    assert row["liver"].startswith("0.910") and any("liver: 400 training cases" in note for note in grid.notes)


def test_results_of_a_version_with_fewer_costs_are_read(folder, tmp_path):
    rows = read_table(folder / "results.csv")
    old = [name for name in rows[0] if name != "memory_per_volume_bytes"]
    write_table(tmp_path / "results.csv", old, [{name: row[name] for name in old} for row in rows])
    row = line(make_table(read_results(tmp_path), "main"), "frozen")
    assert (row["training memory GB"], row["GB / volume"]) == ("3.40", EMPTY)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", FORMATS)
def test_every_layout_renders_in_every_format(results, layout, form):
    grid = make_table(results, layout)
    text = render(grid, form)
    assert grid.rows
    for cell in grid.rows[0]:
        shown = {"latex": cell.replace("%", r"\%").replace("_", r"\_")}.get(form, cell)
        assert shown in text
    assert not {"nan", "None", ""} & {cell for row in grid.rows for cell in row}


def test_the_main_table_has_auroc_mean_rank_difference_and_cost(results):
    grid = make_table(results, "main")
    row = line(grid, "masks")
    assert row["liver"].startswith("0.940 (0.900 to 0.970)")
    assert row["mean AUROC"] == "0.960"
    assert row["mean rank"] == "1.0"
    assert row["liver: minus query (p, Holm)"] == "+0.010 (p = 0.04)"
    assert row["trainable"] == "2.85 M"
    assert row["training s / volume"] == "0.31"
    assert line(grid, "printed: MST")["mean AUROC"] == "0.869"


def test_a_method_that_was_not_run_is_a_dash_and_has_no_mean(results):
    row = line(make_table(results, "main"), "stopped")
    assert set(row.values()) == {"stopped", "-"}
    assert any("stopped on liver, seed 0: failed: out of memory" in note for note in make_table(results, "main").notes)


@given(st.lists(st.sampled_from([0.5, 0.6, 0.7, 0.8, 0.9]), min_size=1, max_size=12))
def test_ranks_are_those_of_scipy(values):
    assert rank(values) == list(rankdata([-value for value in values]))


def test_what_was_not_run_takes_no_rank():
    assert rank([0.9, None, 0.8]) == [1.0, None, 2.0]


def test_table_3_has_the_papers_twelve_and_the_own(results):
    grid = make_table(results, "table3")
    assert line(grid, "T2")["total"] == "4701"
    assert line(grid, "liver-injury")["train"] == "400"
    assert [row[0] for row in grid.rows[-12:]] == [f"T{number}" for number in range(1, 13)]


TABLE_5 = [
    ("average", "0.958"),
    ("max", "0.946"),
    ("median", "0.944"),
    ("LSTM", "0.903"),
    ("Transformer", "0.950"),
]
TABLE_6 = [
    (size, name, task, value)
    for size, name, values in (
        ("ViT-S", "dinov3-small", ("0.980", "0.933", "0.881")),
        ("ViT-B", "dinov3-base", ("0.975", "0.943", "0.902")),
        ("ViT-L", "dinov3-large", ("0.988", "0.962", "0.903")),
    )
    for task, value in zip(("T3", "T5", "T7"), values, strict=True)
]
TABLE_7 = [
    (version, name, task, value)
    for version, name, values in (
        ("DINOv2", "dinov2-large", ("0.956", "0.914", "0.988", "0.957")),
        ("DINOv3", "dinov3-large", ("0.954", "0.922", "0.984", "0.953")),
    )
    for task, value in zip(("T1", "T2", "T3", "T4"), values, strict=True)
]
"""As the supplement prints them, entered a second time: a slip of a finger would have to be made twice."""


@pytest.mark.parametrize(
    ("layout", "names", "column", "expected"),
    [
        ("table4", ("MedicalNet", "LoRA"), "printed T4", "0.889"),
        ("table4", ("MedicalNet", "LoRA"), "liver", "0.860 (0.820 to 0.890)"),
        ("table4", ("VoCo", "full finetuning"), "liver", "-"),
        ("table4", ("VoCo", "full finetuning"), "printed", "50.49 M"),
        ("table5", ("average",), "kidney", "0.950 (0.910 to 0.980)"),
        ("table5", ("LSTM",), "printed", "5.5 M"),
        ("table6", ("ViT-S",), "trainable", "0.23 M"),
        ("table6", ("ViT-L", "dinov3-large"), "printed T3", "0.988"),
        ("table7", ("DINOv3", "dinov3-large"), "printed T3", "0.984"),
        ("table7", ("DINOv2",), "liver", "0.920 (0.880 to 0.950)"),
        *(("table5", (name,), "printed T5", value) for name, value in TABLE_5),
        *(("table6", (size, name), f"printed {task}", value) for size, name, task, value in TABLE_6),
        *(("table7", (version, name), f"printed {task}", value) for version, name, task, value in TABLE_7),
        ("figure7", ("nnU-Net-style 3D decoder",), "printed T5", "0.973"),
        ("figure7", ("EoMT 3D",), "liver", "-"),
        ("figure8", ("printed: MST",), "trainable", "23.05 M"),
        ("label-efficiency", ("liver", "query"), "80 cases", "0.880 (0.840 to 0.910)"),
        ("label-efficiency", ("kidney", "query"), "80 cases", "-"),
        ("label-efficiency", ("printed: 3D DenseNet-121",), "printed 20%", "0.741"),
    ],
)
def test_own_figures_stand_beside_the_printed_ones(results, layout, names, column, expected):
    assert line(make_table(results, layout), *names)[column] == expected


def test_table_8_has_own_grades_and_the_printed_lines(results):
    grid = make_table(results, "table8")
    own = line(grid, "grade=0 vs 1+2")
    assert (own["positive / negative"], own["sensitivity"], own["threshold of"]) == ("9 / 71", "0.800", "youden")
    assert line(grid, "T2 liver")["AUROC"] == "0.9219"


def test_table_8_of_single_grades_follows_from_counts():
    """Liver: sensitivity 0.816 and 1.000, accuracy 0.859 and 0.866 of grade 1 and 2, one specificity for all lines."""
    lines = {one.grades: one for one in SEVERITY if one.organ == "liver"}
    found = {
        grades: tuple(round(getattr(one, name), 3) for name in ("accuracy", "sensitivity", "specificity"))
        for grades, one in lines.items()
    }
    assert found == {
        "0 vs 1+2": (0.862, 0.851, 0.863),
        "0 vs 1": (0.859, 0.816, 0.863),
        "0 vs 2": (0.866, 1.0, 0.863),
    }
    assert lines["0 vs 1"].positive + lines["0 vs 2"].positive == lines["0 vs 1+2"].positive == 94


def test_tables_7_and_8_agree_on_what_both_print():
    of_table_7 = {one.task: one.values[0] for one in VERSIONS if one.variant == "DINOv3"}
    for one in SEVERITY:
        if one.auroc is not None:
            assert round(one.auroc, 3) == of_table_7[one.task]


def test_the_challenge_entry_stands_under_the_main_table(results):
    assert any("VLM3D 0.888" in note for note in make_table(results, "main").notes)


def test_values_that_are_printed_twice_are_both_shown(results):
    row = line(make_table(results, "label-efficiency"), "T3", "printed: AnyMC3D (DINOv3 ViT-L)")
    assert row["printed 100%"] == "0.988 / 0.984"
    assert any("0.9842" in note for note in make_table(results, "table7").notes)


@pytest.mark.parametrize("layout", FIGURES)
def test_pictures_are_drawn(results, layout, tmp_path):
    draw_figure(results, layout, tmp_path / "picture.png")
    content = (tmp_path / "picture.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 10_000


def test_markup_of_names_is_escaped():
    grid = Grid(title="a & b", columns=["method", "x_1"], rows=[["<b>|5%", "0.9"]])
    assert "&lt;b&gt;|5%" in render(grid, "html")
    assert r"<b>|5\% & 0.9" in render(grid, "latex")
    assert r"&lt;b&gt;\|5%" in render(grid, "md")
    assert list(csv.reader(io.StringIO(render(grid, "csv")))) == [["method", "x_1"], ["<b>|5%", "0.9"]]
    html.parser.HTMLParser().feed(render(grid, "html"))


def test_unknown_names_suggest_the_nearest(folder, tmp_path, capsys):
    assert main(["benchmark", "table", str(folder), "--layout", "tabel5"]) == 2
    assert "did you mean 'table5'?" in capsys.readouterr().err
    assert main(["benchmark", "table", str(folder), "--format", "markdown"]) == 2
    assert "known: csv, html, latex, md" in capsys.readouterr().err
    assert main(["benchmark", "figure", str(folder), "--layout", "figure9", "-o", str(tmp_path / "x.png")]) == 2
    assert "did you mean 'figure" in capsys.readouterr().err
    assert main(["benchmark", "table", str(tmp_path)]) == 2
    assert "no such file; 'anymc3d benchmark bench.yaml -o" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"ends in \.png"):
        draw_figure(read_results(folder), "figure8", tmp_path / "x.svg")


def test_a_table_goes_to_a_file_when_asked(folder, tmp_path, capsys):
    assert main(["benchmark", "table", str(folder), "--format", "csv", "-o", str(tmp_path / "t.csv")]) == 0
    assert capsys.readouterr().out == ""
    with (tmp_path / "t.csv").open(newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)][: len(METHODS)] == list(METHODS)


@pytest.mark.parametrize(("column", "cell"), [("value", "0,93"), ("ci_low", "nan"), ("train_cases", "400.0")])
def test_what_a_spreadsheet_made_of_a_number_is_one_line(tmp_path, column, cell):
    write_small_results(tmp_path)
    rows = read_table(tmp_path / "results.csv")
    write_table(tmp_path / "results.csv", list(rows[0]), [rows[0], rows[1] | {column: cell}])
    with pytest.raises(UsageError, match=rf"results\.csv, line 3: {column} '{cell}' is not a (whole )?number"):
        read_results(tmp_path)


def test_no_two_methods_of_a_figure_look_the_same():
    assert len({look_of(index) for index in range(60)}) == 60


def test_no_name_covers_another_or_a_dot(results):
    figure = Figure(figsize=(8.5, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    draw_parameters(results, figure)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    names = [text.get_window_extent() for text in axes.texts]
    dots = [axes.transData.transform(line.get_xydata())[0] for line in axes.lines]
    assert len(names) == 6
    assert not any(one.overlaps(other) for one, other in itertools.combinations(names, 2))
    assert not any(name.contains(*dot) for name in names for dot in dots)
