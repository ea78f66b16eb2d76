"""Figures say what they show, follow the page's theme, and are the same bytes every time."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import xarray as xr

from descent import plots
from descent.quantities import COLORS, QUANTITIES

TEXT = dict(alt="the loss falls", caption="The loss falls.")
STEPS = np.arange(0, 200, 10)


@pytest.fixture
def loss():
    lrs, seeds = [0.01, 0.1, 1.0], [0, 1]
    values = [[np.exp(-lr * STEPS / 20) * (1 + 0.1 * s) for s in seeds] for lr in lrs]
    return xr.DataArray(values, dims=("lr", "seed", "step"), coords={"lr": lrs, "seed": seeds, "step": STEPS}, name="loss")


@pytest.fixture
def accuracy():
    lrs, scales = np.geomspace(0.01, 1, 5), [0.5, 1.0, 2.0]
    values = np.linspace(0.1, 0.9, 15).reshape(5, 3)
    values[-1] = np.nan
    return xr.DataArray(values, dims=("lr", "init_scale"), coords={"lr": lrs, "init_scale": scales}, name="test_accuracy")


@pytest.fixture
def every_figure(loss, accuracy):
    def draw(axes):
        axes.plot([0, 1], [0, 1], color=plots.color("sharpness"))

    predicted = xr.DataArray([1.0, 2.0, 4.0], dims="k", name="predicted")
    return {
        "curves": plots.curves(loss, hue="lr", theory={"zero": 0.01}, threshold={"2/η": 0.5}, **TEXT),
        "scatter": plots.scatter(predicted, 1.1 * predicted.rename("sharpness"), identity=True, **TEXT),
        "slope": plots.scatter(predicted, (3 / predicted).rename("noise_trace"), slope=True, **TEXT),
        "heatmap": plots.heatmap(accuracy, "lr", "init_scale", **TEXT),
        "canvas": plots.canvas(draw, xlabel="w₁", ylabel="w₂", **TEXT),
    }


def texts(figure):
    return " / ".join("".join(t.itertext()) for t in ElementTree.fromstring(figure.svg).iter("{http://www.w3.org/2000/svg}text"))


def test_every_figure_is_well_formed_and_named(every_figure):
    for name, figure in every_figure.items():
        root = ElementTree.fromstring(figure.svg)
        assert root.get("role") == "img" and root.get("aria-label") == TEXT["alt"], name
        assert root.get("viewBox") and root.get("width") == "100%", name
        assert root.find("{http://www.w3.org/2000/svg}title").text == TEXT["alt"], name
        assert "<text" in figure.svg, f"{name}: words must stay words"
        assert "font-family" not in figure.svg, f"{name}: the page's typeface applies"
        assert "<script" not in figure.html() and "<image" not in figure.svg, name
        assert "<figcaption>The loss falls.</figcaption>" in figure.html()


def test_every_colour_follows_the_theme(every_figure):
    for name, figure in every_figure.items():
        bare = re.sub(r"var\(--d-\w+, #[0-9a-f]{6}\)", "", figure.svg)
        assert not re.findall(r"#[0-9a-f]{6}\b(?!\))", bare), f"{name} has a colour that is not of the palette"
        for variable in re.findall(r"var\((--m\d+)\)", figure.svg):
            assert f"{variable}:color-mix(" in figure.svg, f"{name} uses {variable} without defining it"
        assert "var(" not in figure.plain and "color-mix" not in figure.plain


def test_drawing_again_changes_no_byte(loss):
    first, second = (plots.curves(loss, hue="lr", **TEXT).html() for _ in range(2))
    assert first == second
    assert "<dc:date>" not in first and "Matplotlib" not in first


def test_ids_of_different_figures_differ(every_figure):
    seen = {}
    for name, figure in every_figure.items():
        for found in set(re.findall(r'\bid="([^"]+)"', figure.html())):
            assert found not in seen, f"{name} and {seen[found]} share the id {found}"
            seen[found] = name
        for used in re.findall(r'(?:url\(#|href="#)([\w-]+)', figure.svg):
            assert f'id="{used}"' in figure.svg, f"{name} refers to {used}, which is not there"


@pytest.mark.parametrize("missing", ["alt", "caption"])
@pytest.mark.parametrize("text", ["", "   ", None])
def test_a_figure_needs_its_texts(loss, missing, text):
    with pytest.raises(ValueError, match=f"needs {missing}="):
        plots.curves(loss, hue="lr", **{**TEXT, missing: text})


def test_axes_say_quantity_symbol_and_unit(loss):
    words = texts(plots.curves(loss, hue="lr", **TEXT))
    assert "training loss L" in words and "step t (updates)" in words
    assert "η = 0.01" in words and "η = 1" in words and "learning rate" in words


def test_an_arrays_own_words_come_before_the_books(loss):
    loss.attrs.update(long_name="excess risk", symbol="R", units="nats")
    assert "excess risk R (nats)" in texts(plots.curves(loss, hue="lr", **TEXT))


def test_variables_of_a_dataset_have_their_own_labels(loss):
    ds = xr.Dataset({"train_accuracy": 1 - loss.sel(lr=0.1), "test_accuracy": 0.9 - loss.sel(lr=0.1)}).drop_vars("lr")
    words = texts(plots.curves(ds, y=["train_accuracy", "test_accuracy"], **TEXT))
    assert "training accuracy" in words and "test accuracy" in words


def test_a_line_that_diverges_ends_in_a_cross_and_says_so(loss):
    loss = loss.copy()
    loss.loc[dict(lr=1.0, step=slice(50, None))] = np.nan
    figure = plots.curves(loss, hue="lr", **TEXT)
    assert "η = 1 diverges" in texts(figure) and COLORS["divergence"][0] in figure.svg


def test_settings_at_which_all_diverged_are_hatched(accuracy):
    figure = plots.curves(accuracy.sel(init_scale=1.0), x="lr", **TEXT)
    assert "diverges" in texts(figure) and "<pattern" in figure.svg


def test_diverged_cells_are_hatched_and_explained(accuracy):
    figure = plots.heatmap(accuracy, "lr", "init_scale", **TEXT)
    assert "hatched: diverged" in texts(figure) and "<pattern" in figure.svg
    assert "hatched" not in texts(plots.heatmap(accuracy.fillna(0.5), "lr", "init_scale", **TEXT))


def test_the_slope_is_written(every_figure):
    assert "slope −1.00" in texts(every_figure["slope"])


def test_theory_is_dashed(every_figure):
    assert "stroke-dasharray" in every_figure["scatter"].svg and "y = x" in texts(every_figure["scatter"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, m: plots.curves(a, **TEXT), "dimension 'lr'"),
        (lambda a, m: plots.curves(a, x="epoch", **TEXT), "no dimension 'epoch'"),
        (lambda a, m: plots.curves(a, hue="init_scale", **TEXT), "no dimension 'init_scale'"),
        (lambda a, m: plots.curves(a.to_dataset(), hue="lr", **TEXT), "y=[...]"),
        (lambda a, m: plots.curves(a.to_dataset(), y=["sharpness"], **TEXT), "no variable 'sharpness'"),
        (lambda a, m: plots.curves(a, hue="lr", theory={"f": [1, 2]}, **TEXT), "has shape"),
        (lambda a, m: plots.curves(a - 10, hue="lr", yscale="log", **TEXT), "positive values"),
        (lambda a, m: plots.curves(a, hue="lr", yscale="cubic", **TEXT), "'cubic'"),
        (lambda a, m: plots.heatmap(m, "lr", "batch_size", **TEXT), "no dimension 'batch_size'"),
        (lambda a, m: plots.heatmap(m * np.nan, "lr", "init_scale", **TEXT), "no finite value"),
        (lambda a, m: plots.scatter(m - 5, m, slope=True, **TEXT), "positive values"),
        (lambda a, m: plots.scatter(m * np.nan, m, **TEXT), "no point"),
        (lambda a, m: plots.color("puce"), "puce"),
        (lambda a, m: plots.panel(plots.curves(a, hue="lr", **TEXT), caption="x"), "two or more"),
        (lambda a, m: plots.prose(" "), "takes text"),
    ],
)
def test_bad_input_is_refused(loss, accuracy, call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(loss, accuracy)


def test_data_must_be_labelled():
    with pytest.raises(TypeError, match="DataArray"):
        plots.curves(np.ones(3), **TEXT)


def test_a_panel_keeps_each_alt_text(loss, accuracy):
    left = plots.curves(loss, hue="lr", alt="left one", caption="Left.")
    right = plots.heatmap(accuracy, "lr", "init_scale", alt="right one", caption="Right.")
    both = plots.panel(left, right, caption="Both.")
    html = both.html()
    assert html.count("<svg") == 2 and 'aria-label="left one"' in html and 'aria-label="right one"' in html
    assert "<p>Left.</p>" in html and "<figcaption>Both.</figcaption>" in html
    assert both.alt == "left one right one"


def test_saving_writes_a_drawing_of_its_own(loss, tmp_path):
    path = plots.curves(loss, hue="lr", **TEXT).save(tmp_path / "one.svg")
    assert ElementTree.parse(path).getroot().get("width") == str(plots.WIDTH)
    with pytest.raises(ValueError, match="svg"):
        plots.curves(loss, hue="lr", **TEXT).save(tmp_path / "one.png")


def contrast(a, b):
    def luminance(colour):
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    light, dark = sorted([luminance(a), luminance(b)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("role", sorted({q.role for q in QUANTITIES.values()} - {"ink"}))
@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_tints_are_seen_on_both_pages(role, theme):
    tints = [t.theme(theme) for t in plots._tints(role, 6)]
    assert len(set(tints)) == 6
    for tint in tints:
        assert contrast(tint, COLORS["paper"][theme]) >= 3, tint


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (1e-5, "10⁻⁵"), (20, "20"), (10000, "10000"), (0.0304321, "0.0304"), (-2.5, "−2.5"), (3e6, "3·10⁶"), (0, "0"), ("sgd", "sgd")],
)
def test_numbers_are_short(value, text):
    assert plots.number(value) == text


def test_labels_do_not_overlap():
    placed = plots._spread(np.array([10.0, 10.0, 11.0, 90.0]), 16, 0, 100)
    assert np.all(np.diff(np.sort(placed)) >= 15.9) and placed.min() >= 0 and placed.max() <= 100


def test_a_comparison_is_decided_by_its_numbers():
    words = dict(more="better", less="worse", same="as well")
    assert [plots.comparison(a, 1.0, 0.5, **words) for a in (2, 1.5, 1.49, 1, 0.51, 0.5, 0)] == ["better"] * 2 + ["as well"] * 3 + ["worse"] * 2
    for arguments, message in [((float("nan"), 1, 1), "two finite numbers"), ((1, 2, 0), "margin of a comparison is positive")]:
        with pytest.raises(ValueError, match=message):
            plots.comparison(*arguments)


@pytest.mark.parametrize("values, words", [
    ([0.9, 0.99, 0.999, 0.9995], ["0.9", "0.99", "0.999", "0.9995"]), ([0.9995], ["0.9995"]), ([1.0, 1.0005], ["1", "1.0005"]), ([0.1234567], ["0.123"]),
    ([1.0001e-4, 1e-4], ["1.0001·10⁻⁴", "10⁻⁴"]), ([1 - 1e-9], ["1"]), ([0.0, -0.5, 12345.6], ["0", "−0.5", "12300"]),
])  # fmt: skip
def test_numbers_that_are_close_are_told_apart(values, words):
    assert [plots.number(v, values) for v in values] == words
