"""Data: shapes, splits that do not leak, exact noise, clear refusals."""

import numpy as np
import pytest
import torch

from descent import data


@pytest.mark.parametrize("load, shape", [(data.digits, (64,)), (data.mnist1d, (40,))])
def test_parts_do_not_overlap_and_depend_on_the_seed(load, shape):
    one, same, other = (load(train=600, val=100, test=200, seed=s) for s in (0, 0, 1))
    assert one.x.shape == (600, *shape) and one.x_val.shape == (100, *shape) and one.x_test.shape == (200, *shape)
    assert torch.equal(one.x, same.x) and not torch.equal(one.x, other.x)
    train = {x.numpy().tobytes() for x in one.x}
    assert not train & {x.numpy().tobytes() for x in torch.cat([one.x_val, one.x_test])}
    assert one.x.mean().abs() < 1e-5 and abs(one.x.std() - 1) < 1e-5 and one.classes == 10


def test_digits_takes_all_the_rest_for_testing():
    assert len(data.digits(1000).x_test) == 797


def test_a_class_that_the_training_part_lacks_still_counts():
    for seed in range(20):
        few = data.digits(10, seed=seed)
        assert few.classes == 10 and len(few.y.unique()) < 10


def test_too_many_examples_are_refused():
    with pytest.raises(ValueError, match="digits has 1797 examples; train=1700, val=200"):
        data.digits(1700, val=200)
    with pytest.raises(ValueError, match="train=0"):
        data.digits(0)


def test_tilts_have_exactly_the_moments_asked_for():
    x = data.tilts(500, (0.5, 2.0, 0.0)).x
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(x.std(0, correction=0), (0.5, 2.0, 0.0), atol=1e-12)


def test_xor_is_not_linearly_separable_but_its_clusters_are():
    d = data.xor_clusters(4000, 6, separation=4.0)
    target = 2.0 * d.y - 1
    linear = torch.linalg.lstsq(d.x, target[:, None]).solution
    assert ((d.x @ linear)[:, 0] * target > 0).float().mean() < 0.6
    assert (((d.x[:, 1].abs() - d.x[:, 0].abs()) * target) > 0).float().mean() > 0.95


def test_label_noise_spares_the_test_part():
    noisy, clean = (data.xor_clusters(2000, 4, separation=6.0, noise=p, test=500) for p in (0.3, 0.0))
    assert torch.equal(noisy.y_test, clean.y_test)
    assert (noisy.y != clean.y).float().mean().item() == pytest.approx(0.3, abs=0.04)


def test_linear_regression_has_the_spectrum_and_the_noise():
    d = data.linear_regression(20_000, (4.0, 1.0, 0.25), noise=0.5)
    np.testing.assert_allclose(np.cov(d.x.T), np.diag((4.0, 1.0, 0.25)), atol=0.1)
    residual = d.y - d.x @ torch.linalg.lstsq(d.x, d.y).solution
    assert residual.std().item() == pytest.approx(0.5, rel=0.03)


def test_teacher_student_and_gaussian_shapes():
    d = data.teacher_student(30, 5, hidden=3, test=10)
    assert d.y.shape == (30, 1) and d.x_test.shape == (10, 5) and d.classes is None
    g = data.gaussian(2000, 3, separation=5.0)
    assert (g.x[g.y == 1, 0].mean() - g.x[g.y == 0, 0].mean()).item() == pytest.approx(5.0, abs=0.2)


def test_fashion_mnist_from_the_debian_package():
    if not data.DEBIAN_FASHION.exists():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    d = data.fashion_mnist(200, val=50, test=100)
    assert d.x.shape == (200, 1, 28, 28) and d.x_val.shape == (50, 1, 28, 28) and len(d.y_test) == 100
    assert d.classes == 10 and abs(d.x.mean()) < 1e-4


@pytest.mark.parametrize("load, words", [(data.fashion_mnist, "dataset-fashion-mnist"), (data.cifar10, "Connect once")])
def test_absent_and_offline_says_what_to_do(load, words, monkeypatch, tmp_path):
    monkeypatch.setattr(data, "DEBIAN_FASHION", tmp_path / "nowhere")
    monkeypatch.setattr(data, "FASHION_URL", "http://127.0.0.1:9/")
    monkeypatch.setattr(data, "CIFAR_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("DESCENT_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=words):
        load()


def test_a_download_with_the_wrong_content_is_refused(monkeypatch, tmp_path):
    """Served from a local folder: bytes that do not match the checksum never become data."""
    (tmp_path / "source").mkdir()
    for name in data.FASHION_MD5:
        (tmp_path / "source" / name).write_bytes(b"not the data")
    import functools
    import http.server
    import threading

    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "source"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(data, "DEBIAN_FASHION", tmp_path / "nowhere")
        monkeypatch.setattr(data, "FASHION_URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("DESCENT_DATA", str(tmp_path / "cache"))
        with pytest.raises(ValueError, match="hash"):
            data.fashion_mnist()
        server.shutdown()


def test_adding_marks_one_number_in_each_half():
    made = data.adding(300, 7, test=20, seed=3)
    values, marks = made.x.unbind(-1)
    assert made.x.shape == (300, 7, 2) and made.x_test.shape == (20, 7, 2)
    assert (marks[:, :3].sum(1) == 1).all() and (marks[:, 3:].sum(1) == 1).all() and set(marks.unique().tolist()) == {0.0, 1.0}
    assert 0 <= values.min() and values.max() < 1
    assert torch.allclose(made.y[:, 0], torch.stack([v[m == 1].sum() for v, m in zip(values, marks)]))
    assert marks[:, :3].sum(0).min() > 60  # every place is used
    with pytest.raises(ValueError, match="length=1"):
        data.adding(5, 1)
