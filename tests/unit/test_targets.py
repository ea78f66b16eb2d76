"""Targets as people have them: without a column, as integers of any width, as signs, with gaps; for every loss."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from descent import Task, data, models, sweep
from descent.seeding import generator
from descent.task import LOSSES, MARGIN

G = generator(0, "data")
X, XT = G.normal(32, 3), G.normal(9, 3)
VALUES, VALUES_T = X.tanh().sum(1), XT.tanh().sum(1)
LABELS, LABELS_T = (VALUES > 0).long(), (VALUES_T > 0).long()
WHOLE = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "bool"]


def made(y, yt, x=X, xt=XT, **more):
    return data.Data("made", x, y, x_val=xt, y_val=yt, x_test=xt, y_test=yt, **more)


def model_for(loss, wrap=lambda m: m):
    return wrap(models.MLP((3, 4, 2 if loss in ("cross_entropy", "mse") else 1)))


RUNS = {"full batch": {}, "minibatches, two seeds": dict(batch_size=8, seed=[0, 1]), "with replacement": dict(batch_size=8, sampling="replacement")}


def curves(task, **more):
    ds = sweep(task, lr=0.05, steps=10, record=["loss", "test_loss", "val_loss", "weights"], record_every=5, cache=False, **more)
    return np.concatenate([ds[n].values.ravel() for n in ("loss", "test_loss", "val_loss", "weights")])


@pytest.mark.parametrize("wrap", [lambda m: m, models.Mirrored], ids=["written out", "autograd"])
@pytest.mark.parametrize("loss", ["mse", "output", "hinge", "logistic"])
@pytest.mark.parametrize("run", [*RUNS, "label noise"])
def test_targets_without_a_column_are_one_column(wrap, loss, run):
    if run == "label noise" and loss != "mse":
        pytest.skip("label noise is for mse")
    y, yt = (VALUES, VALUES_T) if loss in ("mse", "output") else (VALUES.sign(), VALUES_T.sign())
    more, model = RUNS.get(run, dict(label_noise=0.1)), wrap(models.MLP((3, 4, 1)))
    right = curves(Task(model, made(y[:, None], yt[:, None]), loss), **more)
    for a, b in ((y, yt), (y.numpy(), yt.tolist()), (y.double(), yt.half().float()) if loss in MARGIN else (y, yt[:, None])):
        np.testing.assert_array_equal(curves(Task(model, made(a, b), loss), **more), right)


@pytest.mark.parametrize("model, shape", [(models.MLP((3, 4, 6)), (2, 3)), (models.MLP((3, 1)), (1, 1)), (models.MLP((3, 4)), (4,))])
def test_targets_of_more_dimensions_are_laid_out_in_a_row(model, shape):
    y = G.normal(32, *shape)
    flat, found = (curves(Task(model, data.Data("made", X, t, X, t, X, t), "mse"), batch_size=8, seed=[0, 1]) for t in (y.flatten(1), y))
    np.testing.assert_array_equal(flat, found)


def test_a_law_without_a_column():
    def law(g, n):
        x = g.normal(n, 3)
        return x, x.sum(1)

    column = replace(made(VALUES, VALUES_T), law=lambda g, n: (lambda x, y: (x, y[:, None]))(*law(g, n)))
    found, right = (curves(Task(models.MLP((3, 1)), d, "mse"), sampling="fresh", batch_size=4, seed=[0, 1])
                    for d in (made(VALUES, VALUES_T, law=law), column))  # fmt: skip
    np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("loss", ["mse", "hinge", "logistic"])
def test_several_targets_for_one_output_are_refused(loss):
    y = torch.ones(32, 2)
    with pytest.raises(ValueError, match="needs a model with 2 outputs|needs one target for each example.* has 2"):
        Task(models.MLP((3, 1)), data.Data("two", X, y), loss)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", WHOLE)
def test_labels_of_any_width_are_the_same_labels(loss, dtype):
    if loss == "output":
        model = models.MLP((3, 1))
    else:
        model = model_for(loss)
    right = curves(Task(model, made(LABELS, LABELS_T), loss), batch_size=8, seed=[0, 1])
    for form in (lambda y: y.to(getattr(torch, dtype)), lambda y: y.numpy().astype(dtype), lambda y: y.to(getattr(torch, dtype))[:, None]):
        task = Task(model, made(form(LABELS), form(LABELS_T)), loss)
        assert task.part("train").labels.dtype == torch.int64
        np.testing.assert_array_equal(curves(task, batch_size=8, seed=[0, 1]), right)
        if loss != "output":
            ds = sweep(task, steps=1, record=["train_accuracy", "test_accuracy"], cache=False)
            assert np.isfinite(ds.train_accuracy).all() and np.isfinite(ds.test_accuracy).all()


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64])
@pytest.mark.parametrize("loss", MARGIN)
def test_signs_as_integers_are_signs(loss, dtype):
    """Labels 0 and 1, labels -1 and 1, and values -1. and 1. are three ways to write the same targets."""
    model = models.MLP((3, 4, 1))
    signs, signs_t = (2 * LABELS - 1).to(dtype), (2 * LABELS_T - 1).to(dtype)
    tasks = [Task(model, d, loss) for d in (made(LABELS, LABELS_T), made(signs, signs_t), made(signs[:, None], signs_t[:, None]), made(signs.float(), signs_t.float()))]
    right = curves(tasks[0], batch_size=8, seed=[0, 1])
    for task in tasks[1:]:
        np.testing.assert_array_equal(curves(task, batch_size=8, seed=[0, 1]), right)
    accuracy = [sweep(t, steps=1, record="train_accuracy", cache=False).train_accuracy.values for t in tasks[:3]]
    np.testing.assert_array_equal(accuracy[1], accuracy[0])
    np.testing.assert_array_equal(accuracy[2], accuracy[0])
    one_class = made(signs, torch.ones_like(signs_t))  # a part may lack a class, and it is still a sign
    assert set(Task(model, one_class, loss).part("test").y.flatten().tolist()) == {1.0}
    assert set(Task(model, made(torch.ones_like(signs), signs_t), loss).part("test").y.flatten().tolist()) == {-1.0, 1.0}


@given(st.sets(st.integers(-3, 4), min_size=1, max_size=4), st.sampled_from(MARGIN))
def test_other_integers_are_no_signs(values, loss):
    y = torch.tensor(sorted(values) * 2)
    build = lambda: Task(models.MLP((3, 1)), data.Data("some", X[: len(y)], y), loss)
    if values <= {0, 1} or values <= {-1, 1}:
        right = {1.0 if v == 1 else -1.0 for v in values}
        assert set(build().part("train").y.flatten().tolist()) == right
    else:
        with pytest.raises(ValueError, match="two classes apart; the data 'some' has .*; allowed: 0 and 1, or -1 and 1"):
            build()


@pytest.mark.parametrize("loss", MARGIN)
@pytest.mark.parametrize("where", ["y", "y_val", "y_test"])
def test_one_wrong_sign_in_any_part_is_refused(loss, where):
    for right, wrong, message in ((VALUES_T.sign(), 0.5, "such as 0.5"), (2 * LABELS_T - 1, 0, "-1, 0, 1"), (LABELS_T, 2, "0, 1, 2")):
        bad = right.clone()
        bad[4] = wrong
        parts = {"y": right, "y_val": right, "y_test": right} | {where: bad}
        with pytest.raises(ValueError, match=message):
            Task(models.MLP((3, 1)), data.Data("made", XT, x_val=XT, x_test=XT, **parts), loss)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("where", ["y", "y_val", "y_test"])
def test_negative_labels_are_refused_in_any_part(loss, where):
    parts = {"y": LABELS_T, "y_val": LABELS_T, "y_test": LABELS_T} | {where: 2 * LABELS_T - 1}
    with pytest.raises(ValueError, match="needs class labels from 0; the data 'made' has -1"):
        Task(models.MLP((3, 2)), data.Data("made", XT, x_val=XT, x_test=XT, **parts), loss)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_labels_written_as_floats_are_refused_by_cross_entropy(dtype):
    with pytest.raises(ValueError, match=rf"needs class labels.*real targets \({dtype}\).*y.long\(\) if they are labels"):
        Task(models.MLP((3, 2)), data.Data("made", X, LABELS.to(dtype)), "cross_entropy")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["x", "y", "x_val", "y_val", "x_test", "y_test"])
def test_numbers_that_are_none_are_refused_in_every_part(loss, value, where):
    y = LABELS_T if loss == "cross_entropy" else VALUES_T.sign()
    if where.startswith("y") and loss == "cross_entropy":
        pytest.skip("labels are whole numbers")
    parts = {name: (XT if name[0] == "x" else y).clone() for name in ("x", "y", "x_val", "y_val", "x_test", "y_test")}
    parts[where][3] = value
    part = {"": "", "_val": "val part", "_test": "test part"}[where[1:]]
    with pytest.raises(ValueError, match=f"the {'inputs' if where[0] == 'x' else 'targets'} of .*{part}.* contain NaN or infinity, first in example 3: {value}"):
        Task(models.MLP((3, 2 if loss == "cross_entropy" else 1)), data.Data("gap", **parts), loss)


@pytest.mark.parametrize("where", ["x", "y", "x_test", "y_test"])
def test_numbers_too_large_for_the_precision_are_refused_before_training(where):
    parts = {name: (XT if name[0] == "x" else VALUES_T).double() for name in ("x", "y", "x_test", "y_test")}
    parts[where] = parts[where] * 1e60
    task = Task(models.MLP((3, 1)), data.Data("far", **parts), "mse")
    with pytest.raises(ValueError, match="part of 'far' has numbers beyond 3.4e\\+38, the largest of torch.float32"):
        sweep(task, steps=1, record=["loss", "test_loss"], cache=False)
    assert np.isfinite(sweep(task, lr=1e-30, steps=1, record="loss", record_every=[0], dtype=torch.float64, cache=False).loss).all()


@pytest.mark.parametrize(
    "parts, message",
    [
        (dict(x=X, y=VALUES[:5]), "the train part of 'made' has 32 inputs and 5 targets"),
        (dict(x=X, y=VALUES, x_test=XT), "the test part of 'made' has 9 inputs and no targets"),
        (dict(x=X, y=VALUES, y_val=VALUES), "the val part of 'made' has no inputs and 32 targets"),
        (dict(x=X, y=VALUES, x_test=XT, y_test=VALUES), "the test part of 'made' has 9 inputs and 32 targets"),
        (dict(x=X, y=VALUES, x_test=XT[:0], y_test=VALUES[:0]), "the test part of 'made' has 0 inputs and 0 targets"),
        (dict(x=X[:0], y=LABELS[:0, None]), "the train part of 'made' has 0 inputs and 0 targets"),
        (dict(x=X, y=torch.tensor(1.0)), "has 32 inputs and no targets"),
        (dict(x=X, y=VALUES, x_test=XT[:, :2], y_test=VALUES_T), r"inputs of shape \(3,\), the test part of 'made' has \(2,\)"),
        (dict(x=X, y=VALUES, x_test=XT, y_test=LABELS_T), "are values in 1 columns and labels; give all parts the same kind"),
        (dict(x=X, y=VALUES, x_test=XT, y_test=XT), "are values in 1 columns and values in 3 columns"),
        (dict(x=X, y=VALUES + 0j), "are torch.complex64; give real numbers"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        Task(models.MLP((3, 1)), data.Data("made", **parts), "mse")


class Turned:
    """A user's model whose outputs are (examples, outputs)."""

    input_shape = (3,)

    def __init__(self, outputs, form):
        self.outputs, self.form = outputs, form

    def init(self, g, scale=1.0):
        return {"W": models._scaled(g.normal(self.outputs, 3), scale)}

    def apply(self, params, x):
        return self.form(params["W"] @ x)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("form", [lambda z: z.mT, lambda z: z.sum(-2), lambda z: z.unsqueeze(-2)], ids=["transposed", "flat", "stacked"])
def test_outputs_of_another_shape_are_refused(loss, form):
    y = VALUES.sign() if loss != "cross_entropy" else LABELS
    with pytest.raises(ValueError, match=r"the outputs of Turned for 7 examples have the shape|needs a model with"):
        sweep(Task(Turned(2 if loss == "cross_entropy" else 1, form), data.Data("made", X, y), loss), steps=1, cache=False)


@pytest.mark.parametrize("loss, outputs, message", [("cross_entropy", 2, "at least 3 outputs"), ("output", 2, "a single output, not 2"), ("mse", 2, "with 3 outputs")])
def test_outputs_too_few_or_many_for_the_loss_are_refused(loss, outputs, message):
    with pytest.raises(ValueError, match=message):
        sweep(Task(models.MLP((3, outputs)), data.Data("made", X[:6], torch.tensor([0, 1, 2, 2, 1, 0])), loss), steps=1, cache=False)
