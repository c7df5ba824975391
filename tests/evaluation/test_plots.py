import sys

import numpy as np
import pytest
from scipy.integrate import trapezoid
from sklearn import metrics as oracle

from places import SHARED

pytest.importorskip("matplotlib")

from ecg_hf.evaluation.plots import plot_calibration, plot_roc, roc_curve
from ecg_hf.evaluation.weighted_scores import label_scores
from ecg_hf.output.figures import save_figure
from ecg_hf.signals import ecg_plot as paper
from ecg_hf.signals.ecg_plot import LAYOUTS, plot_ecg
from ecg_hf.signals.record import LEADS
from ecg_hf.training.run_log import plot_losses

RATE = 500


def ramp(num_samples: int = 5000, leads: int = 12) -> np.ndarray:
    """A signal whose every sample differs: 0 to 1 mV over the record, shifted by lead."""
    return np.linspace(0, 1, num_samples) + np.arange(leads)[:, None] / 100


def traces(figure, lead):
    return [line for line in figure.axes[0].lines if line.get_gid() == lead]


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def in_mm(figure, points: np.ndarray) -> np.ndarray:
    """Where points of the axes come to lie on the printed page."""
    return figure.axes[0].transData.transform(points) / figure.dpi * 25.4


@pytest.mark.parametrize("dpi", [254, 100, 300])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_millivolt_is_ten_and_a_second_twenty_five_millimetres(layout, dpi):
    signal = np.zeros((12, 5000))
    signal[1, 1000:] = 1  # lead II steps up by 1 mV after 2 s
    figure = plot_ecg(signal, RATE, layout=layout)
    figure.set_dpi(dpi)
    x, y = in_mm(figure, traces(figure, "II")[-1].get_xydata()).T
    assert y.max() - y.min() == pytest.approx(10, abs=1e-6)
    if layout != "6x2":
        assert x[-1] - x[0] == pytest.approx(4999 / RATE * 25, abs=1e-6)
    assert np.interp(0.5, (y - y.min()) / 10, x) - x[0] == pytest.approx(2 * 25, abs=25 / RATE)


def test_the_saved_picture_has_ten_pixels_to_the_millimetre(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    figure = plot_ecg(ramp(), RATE)
    save_figure(figure, tmp_path / "ecg.png")
    width, height = figure.axes[0].get_xlim()[1], figure.axes[0].get_ylim()[1]
    assert image.imread(tmp_path / "ecg.png").shape[:2] == (10 * height, 10 * width)
    assert width == 5 * np.ceil((20 + 250) / 5)


def test_the_calibration_pulse_is_one_millivolt_and_a_fifth_of_a_second():
    figure = plot_ecg(ramp(), RATE)
    pulses = traces(figure, "pulse")
    assert len(pulses) == 4
    for pulse in pulses:
        x, y = in_mm(figure, pulse.get_xydata()).T
        assert y.max() - y.min() == pytest.approx(10)
        assert np.ptp(x[y > y.mean()]) == pytest.approx(0.2 * 25)
    baselines = [pulse.get_ydata()[0] for pulse in pulses]
    assert baselines == sorted(baselines, reverse=True)


def test_the_grid_has_a_line_for_every_millimetre_and_the_zero_lines_lie_on_large_squares():
    figure = plot_ecg(ramp(), RATE)
    width, height = figure.axes[0].get_xlim()[1], figure.axes[0].get_ylim()[1]
    counts = [len(lines.get_segments()) for lines in figure.axes[0].collections]
    assert counts == [width + 1, height + 1, width // 5 + 1, height // 5 + 1]
    assert all(pulse.get_ydata()[0] % 5 == 0 for pulse in traces(figure, "pulse"))


@pytest.mark.parametrize(("layout", "columns"), [("3x4+1", 4), ("6x2", 2), ("12x1", 1)])
def test_every_lead_is_drawn_in_its_own_share_of_the_time(layout, columns):
    signal = ramp()
    figure = plot_ecg(signal, RATE, layout=layout)
    rows = LAYOUTS[layout] or tuple((lead,) for lead in LEADS)
    zeros = [pulse.get_ydata()[0] for pulse in traces(figure, "pulse")]
    left = 5 + 10  # margin and calibration pulse
    for row, zero in zip(rows, zeros, strict=True):
        for column, lead in enumerate(row):
            line = next(line for line in traces(figure, lead) if abs(line.get_ydata()[0] - zero) < 12)
            first, last = 5000 * column // len(row), 5000 * (column + 1) // len(row)
            np.testing.assert_allclose((line.get_ydata() - zero) / 10, signal[LEADS.index(lead), first:last], atol=1e-9)
            np.testing.assert_allclose((line.get_xdata() - left) / 25, np.arange(first, last) / RATE, atol=1e-9)
    assert sum(line.get_gid() in LEADS for line in figure.axes[0].lines) == sum(len(row) for row in rows)
    assert len(traces(figure, "separator")) == sum(len(row) - 1 for row in rows)
    assert max(len(row) for row in rows) == columns


def test_columns_read_downwards_in_the_standard_order():
    for layout, num_rows in (("3x4+1", 3), ("6x2", 6)):
        for index, lead in enumerate(LEADS):
            assert LAYOUTS[layout][index % num_rows][index // num_rows] == lead
    assert LAYOUTS["3x4+1"][3:] == (("II",),)


def test_leads_are_placed_by_name_not_by_position():
    signal, order = ramp(), np.random.default_rng(0).permutation(12)
    figure = plot_ecg(signal, RATE)
    shuffled = plot_ecg(signal[order], RATE, [LEADS[index] for index in order])
    for lead in LEADS:
        for ours, theirs in zip(traces(figure, lead), traces(shuffled, lead), strict=True):
            np.testing.assert_array_equal(ours.get_xydata(), theirs.get_xydata())


def test_missing_samples_are_gaps():
    signal = ramp()
    signal[1, 100:300] = np.nan
    for line in traces(plot_ecg(signal, RATE), "II"):
        y = line.get_ydata()
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(y)), np.arange(100, 300))


def test_a_lead_without_a_sample_is_named_missing_and_one_without_a_row_not_recorded():
    signal = ramp()[:2]
    signal[0] = np.nan
    words = texts(plot_ecg(signal, RATE, ["I", "II"]).axes[0])
    assert "I: missing" in words
    assert {"V1: not recorded", "III: not recorded"} <= set(words)
    assert words.count("II") == 2


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("peak", [0.5, 4.9, -4.9, 30.0])
def test_the_page_grows_so_that_nothing_is_cut_off_or_crosses_the_next_row(layout, peak):
    signal = np.zeros((12, 5000))
    signal[4, ::400] = peak
    figure = plot_ecg(signal, RATE, layout=layout, title="x")
    height = figure.axes[0].get_ylim()[1]
    zeros = [pulse.get_ydata()[0] for pulse in traces(figure, "pulse")]
    for line in figure.axes[0].lines:
        assert line.get_ydata().min() > 0
        assert line.get_ydata().max() < height - 10
    (line,) = traces(figure, "aVL")
    above, below = [height, *zeros], [*zeros, 0]
    row = next(row for row, zero in enumerate(zeros) if zero in line.get_ydata())
    assert line.get_ydata().max() < above[row]
    assert line.get_ydata().min() > below[row + 1]


def test_the_page_says_its_scale_and_title():
    words = texts(plot_ecg(ramp(), RATE, title="record 7").axes[0])
    assert "record 7" in words
    assert "25 mm/s    10 mm/mV    500 Hz    10 s" in words


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((5000, 12), {}, r"shape \(12, T\), one row per lead, got \(5000, 12\); transpose"),
        ((12,), {}, r"got \(12,\)"),
        ((12, 1), {}, r"got \(12, 1\)"),
        ((2, 100), {"leads": ["I", "I"]}, "every lead once"),
        ((1, 100), {"leads": ["vx"]}, "no place for lead 'vx'; draw it with layout='12x1'"),
        ((12, 100), {"layout": "4x3"}, "layout '4x3' is unknown; choose one of"),
        ((12, 100), {"sampling_rate": 0}, "above 0 Hz, got 0"),
        ((12, 100), {"sampling_rate": float("nan")}, "above 0 Hz, got nan"),
        ((12, 300), {"sampling_rate": 1}, "at most 250 s, got 300 s"),
    ],
)
def test_odd_signals_are_refused(shape, options, message):
    with pytest.raises(ValueError, match=message):
        plot_ecg(np.zeros(shape), **{"sampling_rate": RATE, **options})


@pytest.mark.parametrize("value", [51.0, -1000.0, np.inf])
def test_a_signal_in_microvolts_is_refused(value):
    signal = ramp()
    signal[3, 7] = value
    with pytest.raises(ValueError, match=r"in mV, at most 50 on paper, got .*; convert its unit"):
        plot_ecg(signal, RATE)


def test_real_records_are_drawn_to_scale():
    files = sorted((SHARED / "ptb-xl" / "records500").rglob("*.dat"))[:3]
    if not files:
        pytest.skip("no PTB-XL here")
    for file in files:
        signal = np.fromfile(file, "<i2").reshape(-1, 12).T / 1000
        figure = plot_ecg(signal, RATE)
        y = in_mm(figure, traces(figure, "II")[-1].get_xydata())[:, 1]
        assert np.ptp(y) == pytest.approx(10 * np.ptp(signal[1]), abs=1e-6)


def run_rows(num_steps: int = 300) -> list[dict]:
    rng = np.random.default_rng(0)
    rows = [{"step": step, "loss": 3 + rng.normal() * 0.1, "learning_rate": 1e-3} for step in range(1, num_steps + 1)]
    for row in rows[49::50]:
        row["validation_loss"] = 3.2
    return rows


def test_losses_show_raw_smoothed_and_validation_over_a_learning_rate():
    axes, below = plot_losses(run_rows()).axes
    raw, smooth, validation = axes.lines
    assert [line.get_label() for line in axes.lines] == ["training", "training, smoothed", "validation"]
    assert (len(raw.get_xdata()), len(smooth.get_xdata())) == (300, 300)
    assert list(validation.get_xdata()) == [50, 100, 150, 200, 250, 300]
    assert smooth.get_ydata().std() < raw.get_ydata().std() / 2
    assert smooth.get_ydata()[0] == pytest.approx(raw.get_ydata()[:4].mean())
    assert set(below.lines[0].get_ydata()) == {1e-3}


def test_losses_show_what_the_objective_measured_by_its_kind():
    rows = [row | {"feature_std": 0.8, "accuracy": 0.3, "effective_rank": 7.0} for row in run_rows()]
    loss, shares, counts, rate = plot_losses(rows).axes
    assert [line.get_label() for line in shares.lines] == ["accuracy", "feature_std"]
    assert [line.get_label() for line in counts.lines] == ["effective_rank"]
    assert (len(loss.lines), len(rate.lines)) == (3, 1)


def test_losses_mark_steps_that_were_not_finite():
    rows = run_rows()
    rows[10]["loss"], rows[20]["loss"] = None, float("nan")
    axes = plot_losses(rows).axes[0]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_gid() == "not finite"] == [11, 21]
    assert axes.get_legend().get_title().get_text() == "red ticks: loss not finite (2)"
    assert np.isfinite(axes.lines[1].get_ydata()).all()


def test_losses_need_no_validation_and_no_learning_rate_and_are_logarithmic_after_a_long_fall():
    axes = plot_losses([{"step": step, "loss": 100 / step} for step in range(1, 50)]).axes
    assert len(axes) == 1
    assert len(axes[0].lines) == 2
    assert axes[0].get_yscale() == "log"
    assert plot_losses(run_rows()).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("rows", [[], [{"step": 1, "loss": None}], [{"step": 1, "accuracy": 0.5}]])
def test_losses_without_a_loss_are_refused(rows):
    with pytest.raises(ValueError, match=f"a finite 'loss', got {len(rows)} rows"):
        plot_losses(rows)


def predictions(num_labels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 40, (200, num_labels)) / 39
    labels = (rng.random(scores.shape) < scores).astype(float)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    return labels, scores, [f"L{column}" for column in range(num_labels)]


def test_roc_curve_is_that_of_scikit_learn():
    labels, scores, _ = predictions(4)
    for label, score in zip(labels.T, scores.T, strict=True):
        known = ~np.isnan(label)
        false, true, _ = oracle.roc_curve(label[known], score[known], drop_intermediate=False)
        ours = roc_curve(label, score)
        np.testing.assert_allclose(ours, [false, true], rtol=0, atol=1e-12)


def test_roc_draws_a_curve_per_label_and_names_its_auroc():
    labels, scores, names = predictions(5)
    labels[:, 3] = 0
    axes = plot_roc(labels, scores, names).axes[0]
    assert len(axes.lines) == 1 + 4
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    auroc = label_scores(labels, scores)
    assert legend == [f"L{c}  {auroc[c]:.3f}  ({np.nansum(labels[:, c]):.0f} positive)" for c in (0, 1, 2, 4)]
    assert axes.get_legend().get_title().get_text() == "AUROC\nlabels without both classes: 1"


def test_roc_of_many_labels_names_the_mean_and_the_three_lowest():
    labels, scores, names = predictions(20)
    axes = plot_roc(labels, scores, names).axes[0]
    auroc = label_scores(labels, scores)
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(axes.lines) == 1 + 20 + 1
    assert legend[0] == f"mean of 20 labels  {auroc.mean():.3f}"
    assert [text.split()[0] for text in legend[1:]] == [names[column] for column in np.argsort(auroc)[:3]]
    mean = next(line for line in axes.lines if line.get_label() == legend[0])
    assert trapezoid(mean.get_ydata(), mean.get_xdata()) == pytest.approx(auroc.mean(), abs=2e-3)


def test_roc_without_a_drawable_label_is_refused():
    with pytest.raises(ValueError, match="none of 2 labels has both classes"):
        plot_roc(np.zeros((5, 2)), np.full((5, 2), 0.5), ["a", "b"])


def test_calibration_points_give_the_ece():
    labels, scores, names = predictions(3)
    axes, below = plot_calibration(labels, scores, names).axes
    for column, name in enumerate(names):
        colour = next(line for line in axes.lines if line.get_label().startswith(name)).get_color()
        points = [line for line in axes.lines if line.get_marker() == "o" and line.get_color() == colour]
        x, y = np.concatenate([line.get_xydata() for line in points]).T
        known = ~np.isnan(labels[:, column])
        bins = np.ceil(scores[known, column] * 15 - 1e-9).clip(1)
        order, (_, counts) = np.argsort(x), np.unique(bins, return_counts=True)
        ece = label_scores(labels, scores, "ece")[column]
        assert np.sum(abs(x - y)[order] * counts) / known.sum() == pytest.approx(ece, abs=1e-12)
    bars = {patch.get_label(): patch.get_data().values for patch in below.patches}
    assert bars["all"].sum() == np.sum(~np.isnan(labels))
    assert bars["present"].sum() == np.nansum(labels)
    assert below.get_yscale() == "log"


def test_calibration_shows_small_bins_hollow_and_apart():
    labels, scores = np.zeros((25, 1)), np.full((25, 1), 0.1)
    scores[20:], labels[22:] = 0.9, 1
    axes = plot_calibration(labels, scores, ["a"]).axes[0]
    line = next(line for line in axes.lines if line.get_label().startswith("a "))
    np.testing.assert_allclose(line.get_xydata(), [[0.1, 0]])
    hollow = next(line for line in axes.lines if line.get_markerfacecolor() == "white")
    np.testing.assert_allclose(hollow.get_xydata(), [[0.9, 0.6]])


def test_calibration_of_many_labels_names_all_together():
    labels, scores, names = predictions(13)
    axes = plot_calibration(labels, scores, names).axes[0]
    (text,) = [text.get_text() for text in axes.get_legend().get_texts()]
    assert text == f"all 13 labels  {label_scores(labels, scores, 'ece').mean():.3f} on average"
    assert len(axes.lines) == 1 + 13 + 3


@pytest.mark.parametrize("plot", [plot_roc, plot_calibration])
def test_predictions_of_a_wrong_shape_are_refused(plot):
    labels, scores, names = predictions(3)
    with pytest.raises(ValueError, match="a name for each of 3 labels, got 2"):
        plot(labels, scores, names[:2])
    with pytest.raises(ValueError, match=r"one shape .* got \(200, 3\) and \(200, 2\)"):
        plot(labels, scores[:, :2], names)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_every_figure_is_saved_without_pyplot(tmp_path, suffix):
    pyplot_was_loaded = "matplotlib.pyplot" in sys.modules
    labels, scores, names = predictions(3)
    figures = [
        plot_ecg(ramp(600), 240),
        plot_losses(run_rows()),
        plot_roc(labels, scores, names),
        plot_calibration(labels, scores, names),
    ]
    for number, figure in enumerate(figures):
        save_figure(figure, tmp_path / f"{number}.{suffix}")
        assert (tmp_path / f"{number}.{suffix}").stat().st_size > 5000
    assert ("matplotlib.pyplot" in sys.modules) == pyplot_was_loaded


def test_a_missing_matplotlib_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'ecg_hf\[viz\]'"):
        paper.new_figure(1, 1)
