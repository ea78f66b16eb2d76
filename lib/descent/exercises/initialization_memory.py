"""Exercises of the chapter "initialization-memory"."""

from __future__ import annotations

import math

import numpy as np

from descent.exercises import compare, exercise, number, predict
from descent.memory import memory, selected

_FALLS, _STAYS, _DOUBLES = "it falls below half", "it stays about the same", "it doubles"


@predict(
    "initialization-memory/1",
    options=(_FALLS, _STAYS, _DOUBLES),
    right="Once the training digits are fitted the gradient is next to nothing, and no other force acts on the weights. Patience alone does not forget.",
    wrong="Which force still acts on the weights once every example is fitted and nothing penalizes their norm?",
)
def _(run):
    before, after = memory(run.test_accuracy.mean("seed")).values
    shown = _FALLS if after < before / 2 else _DOUBLES if after > 1.5 * before else _STAYS
    fitted = 100 * float(run.train_accuracy.isel(step=0).mean())
    return shown, f"The memory is {before:.1f} points when {fitted:.1f} % of the training digits are fitted, and {after:.1f} points after ten times as many steps."


_SAME, _MOVED, _GONE = "it is still there, to the last digit", "it has changed, but is not much shorter", "most of it is gone"


@predict(
    "initialization-memory/2",
    options=(_SAME, _MOVED, _GONE),
    right="Dividing each coordinate by a number of its own turns the gradient out of the span of the inputs, so that what the data cannot see is pushed about. But nothing pulls it towards zero: to move is not to forget.",
    wrong="Take a vector in the span of the inputs and divide each coordinate by a number of its own. Is it still in the span? And if the weights move outside of the span, is there anything that pulls them to zero?",
)
def _(run):
    first, last = run.isel(step=0), run.isel(step=-1)
    length = np.sqrt((first**2).sum("component"))
    moved = (np.sqrt(((last - first) ** 2).sum("component")) / length).median("seed")
    left = float((np.sqrt((last**2).sum("component")) / length).median("seed").sel(optimizer="adam"))
    adam, heavy = float(moved.sel(optimizer="adam")), float(moved.sel(optimizer="heavy_ball"))
    shown = _SAME if adam < 1e-6 else _MOVED if left > 0.5 else _GONE
    return shown, f"Adam has moved it by {adam:.2g} of its length, which is then {left:.2f} of what it was; heavy ball has moved it by {heavy:.0e}."


@exercise("initialization-memory/3")
def _(answer):
    rate = 0.05 * 0.02
    tenth = math.log(0.1) / math.log1p(-rate)
    return compare(
        number(answer, "a number of steps"),
        tenth,
        rel=0.01,  # a measured time is read off a grid of steps
        mistakes={
            1 / rate: "That is the forgetting time, after which a fraction 1/e is left. A tenth takes longer.",
            0.9 / rate: "You have let it fall along a straight line. Each step takes away a share of what is left.",
            math.log(0.9) / math.log1p(-rate): "That is when one tenth has gone. The question asks when one tenth is left.",
            math.log(0.1) / math.log1p(-0.02): "How large a step does the penalty take? The learning rate is missing.",
            tenth / 2: "Your clock runs twice too fast. Is it the length that you follow, or its square? And what is the gradient of half of μ‖w‖²?",
        },
        neighbours={
            2 * tenth: "half of the penalty taken for half of its gradient",
            2.0 / rate: "two forgetting times",
        },
        wrong="Which factor does one step multiply the unseen part by? After how many such factors is it a tenth, and is your record fine enough to tell?",
        right="Training data, batch size and init scale do not enter.",
    )


@exercise("initialization-memory/4")
def _(answer):
    # the clock has run to ημt = 1; at this init scale the force of the data along the start changes the overlap by less than two percent
    return compare(
        number(answer, "an overlap"),
        math.exp(-0.05 * 0.02 * 1000),
        rel=0.03,
        mistakes={
            1 - math.exp(-1): "This is the mean over the run. The question asks for the last step.",
            math.exp(-2): "So falls the square of the norm. The overlap is linear in the weights.",
        },
        unearned={1.0: "Next to nothing has decayed: is the penalty switched on, and do you read the last step?"},
        neighbours={math.exp(-0.5): "half of the penalty in the clock", 1 - 0.05 * 0.02 * 500: "the same along a straight line"},
        right="The clock of the penalty says the same, without having seen the data.",
        wrong="This recipe leaves something else. Compare η, μ, α and the number of steps with the text. How does the force of the data along the start depend on α?",
    )


_ADAM, _ADAMW, _EQUAL = "Adam with the penalty has lost more of it", "AdamW has lost more of it", "both have lost the same share"


@predict(
    "initialization-memory/5",
    options=(_ADAM, _ADAMW, _EQUAL),
    right="Adam divides the whole gradient by its own size, the part of the penalty included: where the gradient is small, the penalty is enlarged. The decay of AdamW stays outside of that division.",
    wrong="Write down one step of both. By what is the part of the penalty divided in the one, and what happens to this divisor when the gradients of the data become small?",
)
def _(run):
    adam, adamw, clock = run
    lost = [1 - float(r.overlap.isel(step=-1).median("seed")) for r in (adam, adamw)]
    shown = _ADAM if lost[0] > 1.3 * lost[1] else _ADAMW if lost[1] > 1.3 * lost[0] else _EQUAL
    return shown, f"Of its overlap with the start Adam has lost {lost[0]:.0%} and AdamW {lost[1]:.0%}; the clock of the decay alone would take {1 - clock:.0%}."


@exercise("initialization-memory/6")
def _(answer, runs):
    chosen = selected(runs).test_accuracy
    value, tolerance = float(memory(chosen.mean("seed"))), 0.02
    mistakes = {
        float(memory(chosen).mean()): "You take the spread for each seed and average afterwards. What is the largest minus the smallest of three noisy numbers if the init scale has no effect?",
        float(memory(selected(runs, by="test_accuracy").test_accuracy.mean("seed"))): "You select by the test accuracy, which nobody has when a network must be chosen.",
        float(memory(runs.test_accuracy.isel(step=-1).mean("seed"))): "These are the networks at the last step. Practice keeps another one.",
        float(memory(chosen.mean("init_scale"), over="seed")): "You average over the init scales and compare the seeds.",
        100 * float(chosen.max() - chosen.min()): "This is the spread over all networks, seeds included.",
        value / 100: "These are fractions; the memory is given in percentage points.",
    }
    noise = float(memory(chosen, over="seed").mean())
    return compare(
        number(answer, "a number of percentage points"),
        value,
        abs=tolerance,
        mistakes={mistake: message for mistake, message in mistakes.items() if abs(mistake - value) > tolerance},  # they may agree by chance
        wrong="Which networks are kept, what is averaged over what, and between which of the averages is the spread? In which units?",
        right=f"Networks of one init scale that differ in their seed alone spread by {noise:.1f} points here. How much of this memory do you believe?",
    )
