"""The names, symbols and colours of everything the book measures or sets.

A quantity looks the same wherever it appears: in a figure, on a slider, in the style
sheet. This module is the only place where that look is written down.

The hues are those of Okabe & Ito ("Color Universal Design", 2008), told apart by readers
with any common colour-vision deficiency, darkened for a light page and lightened for a
dark one until each has a contrast of at least 4.5 : 1 with the page behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """How a quantity is written and drawn.

    Attributes:
        label: plain words, lower case, for axes and screen readers.
        symbol: Unicode symbol for sliders and direct labels, "" if there is none.
        tex: the same symbol in TeX, "" if there is none.
        unit: unit, "" for a pure number.
        role: the colour's name in `COLORS`.
        scale: "log" or "linear", the axis on which the quantity is read best.
    """

    label: str
    symbol: str = ""
    tex: str = ""
    unit: str = ""
    role: str = "ink"
    scale: str = "linear"

    @property
    def color(self) -> tuple[str, str]:
        """The quantity's colour on a light and on a dark page, as "#rrggbb"."""
        return COLORS[self.role]


#: role -> (on the light page, on the dark page)
COLORS = {
    "loss": ("#0063a6", "#6cb6ef"),
    "accuracy": ("#007553", "#3fc79a"),
    "sharpness": ("#b84a00", "#f28c4b"),
    "distance": ("#9c4a80", "#e093c4"),
    "noise": ("#8a6100", "#e6b23c"),
    "gradient": ("#2f7392", "#7cc8e8"),
    "theory": ("#1d1d1f", "#f0ede6"),
    "threshold": ("#6a6a70", "#a3a3ab"),
    "divergence": ("#a5122a", "#ff8a94"),
    "ink": ("#1f2328", "#e8e4db"),
    "muted": ("#5c6168", "#a6a29a"),
    "rule": ("#d9d4c9", "#3a3d44"),
    "panel": ("#f4f1ea", "#22252b"),
    "paper": ("#fdfcf9", "#16181d"),
    "accent": ("#0063a6", "#6cb6ef"),
}

#: What a sweep can record, by the variable's name in its Dataset.
QUANTITIES = {
    "loss": Quantity("training loss", "L", "L", role="loss", scale="log"),
    "batch_loss": Quantity("minibatch loss", "L_B", r"L_B", role="loss", scale="log"),
    "test_loss": Quantity("test loss", "L_test", r"L_{\mathrm{test}}", role="loss", scale="log"),
    "val_loss": Quantity("validation loss", "L_val", r"L_{\mathrm{val}}", role="loss", scale="log"),
    "train_accuracy": Quantity("training accuracy", role="accuracy"),
    "val_accuracy": Quantity("validation accuracy", role="accuracy"),
    "test_accuracy": Quantity("test accuracy", role="accuracy"),
    "sharpness": Quantity("sharpness", "λ", r"\lambda_{\max}", role="sharpness"),
    "trace": Quantity("Hessian trace", "tr H", r"\operatorname{tr} H", role="sharpness", scale="log"),
    "distance": Quantity("distance from initialization", "‖w − w₀‖", r"\|w-w_0\|", role="distance"),
    "overlap": Quantity("overlap with initialization", "o", "o", role="distance"),
    "memory": Quantity("initialization memory", "M", "M", unit="points", role="distance"),
    "weight_norm": Quantity("weight norm", "‖w‖", r"\|w\|", role="distance"),
    "gradient_norm": Quantity("gradient norm", "‖∇L‖", r"\|\nabla L\|", role="gradient", scale="log"),
    "noise_trace": Quantity("gradient noise variance", "tr Σ", r"\operatorname{tr}\Sigma", role="noise", scale="log"),
    "noise_scale": Quantity("gradient noise scale", "B", r"B_{\mathrm{simple}}", unit="examples", role="noise", scale="log"),
    "feature_cosine": Quantity("mean cosine of two examples' features", role="distance"),
    "depth": Quantity("hidden layers", "D", "D", scale="log"),
    "layer": Quantity("layer", "ℓ", r"\ell"),
    "layer_alignment": Quantity("alignment with the labels", role="accuracy"),
    "layer_gradient_size": Quantity("size of an output's gradient in one matrix", role="gradient", scale="log"),
    "jacobian_singular_values": Quantity("singular value of the input-output Jacobian", "s", "s", role="gradient", scale="log"),
    "kernel_distance": Quantity("kernel distance", role="distance"),
    "singular_values": Quantity("singular values of the product", "σ", r"\sigma_k", role="accuracy", scale="log"),
    "mode_strength": Quantity("strength of a mode", "a", "a_k", role="accuracy"),
    "lowest_curvature": Quantity("lowest eigenvalue of H", "λ_min", r"\lambda_{\min}", role="sharpness"),
    "neuron_alignment": Quantity("alignment of neurons", "cos", r"\cos", role="accuracy"),
    "stable_rank": Quantity("stable rank of the first layer", role="distance"),
    "rank_distance": Quantity("relative distance of matrices", role="distance"),
    "matrix": Quantity("end-to-end matrix", "W", "W"),
    "kernel_change": Quantity("relative change of the kernel", "|ΔK| / |K₀|", r"\|\Delta K\|/\|K_0\|", role="sharpness", scale="log"),
    "kernel_alignment": Quantity("alignment of the kernel with the targets", role="accuracy"),
    "relative_distance": Quantity("relative distance moved", "|Δw| / |w₀|", r"\|\Delta w\|/\|w_0\|", role="distance", scale="log"),
    "probe_accuracy": Quantity("accuracy of a linear probe", role="accuracy"),
    "test_error": Quantity("test error", unit="%", role="accuracy"),
    "weights": Quantity("weights", "w", "w", role="ink"),
    "curvature": Quantity("curvature", "λ", r"\lambda_i", role="sharpness", scale="log"),
    "contraction": Quantity("contraction per step", "ρ", r"\rho", role="loss"),
    "loss_ratio": Quantity("loss ratio per step", role="loss"),
    "variance": Quantity("mean square distance from the minimum", "E w²", r"\mathbb{E}\,w^2", role="noise", scale="log"),
    "truth_error": Quantity("squared distance to the truth", "‖β − β*‖²", r"\|\beta-\beta^*\|^2", role="distance", scale="log"),
    "support_size": Quantity("size of the support", "|S|", r"|S|", unit="coefficients", role="accuracy"),
    "coefficients": Quantity("coefficients", "β", r"\beta", role="ink"),
    "effective_scale": Quantity("effective scale", "a", "a", role="noise", scale="log"),
    "scale_change": Quantity("mean log of effective over init scale", "⟨log a/α⟩", r"\langle\log(a/\alpha)\rangle", role="noise"),
    "risk": Quantity("risk per coordinate", "R", "R", role="loss", scale="log"),
    "path_length": Quantity("path length", "∫‖dw‖", r"\int\|dw\|", role="distance"),
    "generalization_gap": Quantity("population loss − training loss", role="loss"),
    "dimension": Quantity("box-counting dimension", "D", "D", role="divergence"),
    "squares": Quantity("mixed squares", "N", "N", role="divergence", scale="log"),
    "share": Quantity("share of source A", "s", "s", role="distance"),
    "view_share": Quantity("share of view A in the outputs", "s", "s", role="distance"),
    "view_accuracy": Quantity("test accuracy on one view", role="accuracy"),
    "beyond_rank": Quantity("share of the singular values beyond the rank", role="distance"),
    "mode_strengths": Quantity("strength of a branch in a mode", "a", "a", role="distance"),
    "strengths": Quantity("strength of a path", "a", "a", role="gradient"),
    "envelope_gradient": Quantity("gradient norm of the Moreau envelope", "‖∇Lₜ‖", r"\|\nabla L_t\|", role="gradient", scale="log"),
}

#: What a sweep can vary, by the argument's name.
HYPERPARAMETERS = {
    "lr": Quantity("learning rate", "η", r"\eta", scale="log"),
    "readout_lr": Quantity("learning rate of the last layer", "η₂", r"\eta_2", scale="log"),
    "batch_size": Quantity("batch size", "B", "B", unit="examples", scale="log"),
    "init_scale": Quantity("init scale", "α", r"\alpha", scale="log"),
    "seed": Quantity("seed"),
    "optimizer": Quantity("optimizer"),
    "schedule": Quantity("schedule"),
    "momentum": Quantity("momentum", "β", r"\beta"),
    "beta1": Quantity("first-moment decay", "β₁", r"\beta_1"),
    "beta2": Quantity("second-moment decay", "β₂", r"\beta_2"),
    "eps": Quantity("denominator offset", "ε", r"\epsilon", scale="log"),
    "l2": Quantity("L2 penalty", "μ", r"\mu", scale="log"),
    "l1": Quantity("L1 penalty", "ν", r"\nu", scale="log"),
    "weight_decay": Quantity("weight decay", "ω", r"\omega", scale="log"),
    "clip": Quantity("clipping norm", "c", "c", scale="log"),
    "temperature": Quantity("temperature", "τ", r"\tau", scale="log"),
    "label_noise": Quantity("label noise", "σ", r"\sigma"),
    "deficit_start": Quantity("start of the deficit", "t₁", "t_1", unit="updates"),
    "deficit_length": Quantity("length of the deficit", "Δt", r"\Delta t", unit="updates"),
    "penalty": Quantity("gradient penalty", "γ", r"\gamma", scale="log"),
    "ascent": Quantity("ascent step", "ρ", r"\rho", scale="log"),
    "step": Quantity("step", "t", "t", unit="updates"),
}


def describe(name: str) -> Quantity:
    """The `Quantity` called `name`; an unknown name is its own label, drawn in ink."""
    known = QUANTITIES.get(name) or HYPERPARAMETERS.get(name)
    return known or Quantity(name.replace("_", " "))


def digits(values: Iterable[float], least: int = 3) -> int:
    """Significant digits, `least` to 15, that tell values apart, and those that are not 1 from 1: a momentum of 0.9995 is not 1.

    Values that differ from 1 by rounding alone, by less than 10^-6, need not be told from it.
    """
    values = {float(v) for v in values}
    near = {v for v in values if 1e-6 < abs(v - 1) < 0.01}
    for count in range(least, 15):
        rounded = {v: float(f"{v:.{count}g}") for v in values}
        if len(set(rounded.values())) == len(values) and all(rounded[v] != 1 for v in near):
            return count
    return 15


#: How hosts say that they are light or dark; what a page paints is asked first where a script can (tone.js).
_LIGHT = ('html[data-theme="light"]', 'body[data-jp-theme-light="true"]')
_DARK = (
    'html[data-theme="dark"]', 'body[data-jp-theme-light="false"]', 'html[theme="dark"]', "body.vscode-dark",
    "body.vscode-high-contrast:not(.vscode-high-contrast-light)",
)  # fmt: skip
_TONE = '[data-descent-tone="{}"]'

#: What a role is under forced colours, where the reader has chosen the page's. The hues of curves stay.
_SYSTEM = {"ink": "CanvasText", "muted": "CanvasText", "theory": "CanvasText", "threshold": "CanvasText", "rule": "CanvasText",
           "panel": "Canvas", "paper": "Canvas", "accent": "Highlight"}  # fmt: skip


def css(*roles: str) -> str:
    """The palette as CSS custom properties `--d-<role>`, light and dark; of some roles, or of all.

    Dark or light is, in this order: what tone.js has found that the page paints behind the figure, what the host says
    (the site, Jupyter, Colab, VS Code), and otherwise what becomes the page's text: light text stands on a dark page.
    Under forced colours the roles that are no data are the reader's own.
    """
    chosen = {role: COLORS[role] for role in roles or COLORS}

    def block(selectors: Iterable[str], values: Mapping[str, str]) -> str:
        return ", ".join(selectors) + " {\n" + "".join(f"  --d-{role}: {value};\n" for role, value in values.items()) + "}\n"

    light, dark = ({role: pair[i] for role, pair in chosen.items()} for i in (0, 1))
    root, tones = (":root", ":host"), [_TONE.format(tone) for tone in ("light", "dark")]
    every = [*root, *_LIGHT, *_DARK, *tones]
    text = "clamp(0, (0.3*r + 0.59*g + 0.11*b - 127)*99, 255)"  # black where the text is dark, white where it is light
    derived = {"text": f"rgb(from currentColor {text} {text} {text})"} | {role: _between(*pair) for role, pair in chosen.items()}
    system = {role: value for role, value in _SYSTEM.items() if role in chosen}
    return (
        block(root, light)
        + f"@supports (color: rgb(from red r g b)) {{\n{block(root, derived)}}}\n"
        + block([*_LIGHT, tones[0]], light)
        + block([*_DARK, tones[1]], dark)
        + f"@media (forced-colors: active) {{\n{block(every, light | system)}}}\n"
        + f"@media (forced-colors: active) and (prefers-color-scheme: dark) {{\n{block(every, dark | system)}}}\n"
    )


def css_line(*roles: str) -> str:
    """`css` on one line, for the `<style>` that an output carries: a notebook elsewhere than on the site has no other."""
    return re.sub(r"\s*\n\s*", "", css(*roles))


def _between(light: str, dark: str) -> str:
    """The first colour where --d-text is black, the second where it is white."""
    pairs = [(int(light[i : i + 2], 16), int(dark[i : i + 2], 16)) for i in (1, 3, 5)]
    parts = " ".join(f"calc({a} + {c}*{(b - a) / 255:.4f})" for c, (a, b) in zip("rgb", pairs))
    return f"rgb(from var(--d-text) {parts})"
