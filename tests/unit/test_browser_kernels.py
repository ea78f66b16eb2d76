"""Every operation of the table against PyTorch, in float32, through the compiler and WebAssembly."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import wasmtime

from descent.browser import Unsupported
from descent.browser.lower import OPS
from descent.browser.package import build, lowered
from descent.browser.trace import Program, _Tracer
from descent.norms import clipped, norm
from descent.optimizers import over

g = torch.Generator().manual_seed(0)
a, b = torch.randn(3, 5, 7, generator=g), torch.randn(3, 5, 7, generator=g)
row, wide, one = torch.randn(7, generator=g), 100 * torch.randn(40, 100, generator=g), torch.tensor([0.37])
positive, tiny = a.abs() + 0.01, 1e-4 * a
i, j = torch.randint(-50, 50, (4, 6), generator=g), torch.randint(1, 9, (4, 6), generator=g)
words = torch.randint(-(2**31), 2**31 - 1, (3, 50), generator=g).int()
few = torch.randint(0, 5, (3, 40), generator=g)
big, tall = torch.randn(33, 67, generator=g), torch.randn(67, 29, generator=g)
special = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -1.0, 2.0])
powers = torch.arange(1.0, 2000.0)
far = torch.tensor([[3e20, 4e20], [3e-20, 4e-20], [3.0, 4.0], [0.0, 0.0], [2e38, 3e38]])
images, filters = torch.randn(3, 4, 6, 6, generator=g), torch.randn(8, 2, 3, 3, generator=g)

#: name -> function, its inputs
CASES = {
    "add": (lambda x, y: x + y, a, row),
    "add alpha": (lambda x, y: torch.add(x, y, alpha=2), a, b),
    "add integers": (lambda x, y: x + y, i, j),
    "sub": (lambda x, y: x - y, a, row),
    "rsub": (lambda x: 1 - x, a),
    "mul": (lambda x, y: x * y, a, row),
    "mixed": (lambda x, y: x * y, big[:4, :6], i),
    "div": (lambda x, y: x / y, a, b),
    "div integers": (lambda x, y: x / y, i, j),
    "floor div": (lambda x, y: x // y, i, j),
    "floor div floats": (lambda x: x // 0.3, a),
    "trunc": (lambda x, y: torch.div(x, y, rounding_mode="trunc"), i, j),
    "remainder": (lambda x, y: x % y, i, j),
    "neg": (lambda x: -x, a),
    "abs": (lambda x: x.abs(), a),
    "sign": (lambda x: x.sign(), special[1:]),
    "reciprocal": (lambda x: x.reciprocal(), a),
    "sqrt": (lambda x: x.sqrt(), positive),
    "rsqrt": (lambda x: x.rsqrt(), positive),
    "exp": (lambda x: x.exp(), wide.clamp(max=88)),
    "exp special": (lambda x: x.exp(), special),
    "expm1": (lambda x: x.expm1(), a),
    "expm1 tiny": (lambda x: x.expm1(), tiny),
    "log": (lambda x: x.log(), wide.abs()),
    "log special": (lambda x: x.log(), special),
    "log1p": (lambda x: x.log1p(), positive),
    "log1p tiny": (lambda x: x.log1p(), tiny),
    "tanh": (lambda x: x.tanh(), wide / 30),
    "tanh tiny": (lambda x: x.tanh(), tiny),
    "tanh special": (lambda x: x.tanh(), special),
    "sin": (lambda x: x.sin(), wide),
    "cos": (lambda x: x.cos(), wide),
    "sin special": (lambda x: x.sin() + x.cos(), special),
    "sigmoid": (lambda x: x.sigmoid(), wide / 5),
    "relu": (lambda x: x.relu(), special),
    "floor": (lambda x: x.floor(), a),
    "maximum": (torch.maximum, a, b),
    "minimum": (torch.minimum, a, b),
    "pow": (lambda x: x**3 + x**2 + x**1.0, a),
    "root": (lambda x: x**0.5 + x**1.7, positive),
    "pow negative": (lambda x: x**-3 + x**11, a),
    "pow of number": (lambda x: 0.999**x, powers),
    "pow of tensors": (lambda x, y: x**y, one, powers[:60]),
    "pow special": (lambda x: x**1.5, special[[0, 1, 3, 4, 5]]),
    "comparisons": (lambda x, y: ((x < y) | (x >= 0.5) & (y <= 1) ^ (x > y), x == y, x != 0), a, b),
    "logical": (lambda x, y: (torch.logical_and(x, y), torch.logical_or(x, y), torch.logical_not(x), ~(x > 0)), i, j),
    "isfinite": (lambda x: (torch.isfinite(x), torch.isnan(x), torch.isinf(x)), special),
    "bits": (lambda x, y: (x & y, x | y, x ^ y, ~x), i, j),
    "shifts": (lambda x: (x << 5, x >> 3, (x.long() & 0xFFFFFFFF) * 1000 >> 32, x + x), words),
    "where": (lambda x, y: torch.where(x > 0, x, y), a, row),
    "clamp": (lambda x: (x.clamp(-0.5, 0.5), x.clamp(min=0.0), x.clamp(max=1.0)), special),
    "leaky": (lambda x: F.leaky_relu(x, 0.01), a),
    "elu": (lambda x: F.elu(x), a),
    "lerp": (lambda x, y: torch.lerp(x, y, 0.999), a, b),
    "addcmul": (lambda x, y: x.addcmul(y, x, value=-1), a, b),
    "constants": (lambda x: (x + torch.tensor([1.0, 2, 3, 4, 5, 6, 7]), torch.where(x > 0, 1.0, x), x * torch.tensor(3.0)), a),
    "select's gradient": (lambda x: torch.func.grad(lambda y: y[:, 1].exp().sum() + y[..., 2:5].sin().sum())(x), a),
    "full": (lambda x: (torch.full_like(x, 2.5), torch.zeros_like(x), torch.ones_like(x), torch.full((2,), 3.0), x.new_zeros(3)), a),
    "arange": (lambda x: x + torch.arange(7) + torch.arange(1, 8) * torch.arange(0, 14, 2), a),
    "cast": (lambda x: (x.long(), x.int(), x > 0, (x > 0).float()), a),
    "wrap": (lambda x: x.to(torch.int32), words.long() * 3),
    "clone": (lambda x: x.clone().add_(1).detach(), a),
    "expand": (lambda x: x.expand(3, 5, 7) * 1, row),
    "permute": (lambda x: x.permute(2, 0, 1) * 1, a),
    "transposed sum": (lambda x, y: (x.mT + y.mT).exp(), a, b),
    "movedim": (lambda x: x.exp().movedim(-1, 0) + 1, a),
    "squeeze": (lambda x: x.unsqueeze(1).exp().squeeze(1).unsqueeze(-1), a),
    "reshape": (lambda x: x.reshape(5, 21) + x.mT.reshape(5, 21), a),
    "unflatten": (lambda x: x[:, :24].unflatten(1, (4, 6)) * 2, big),
    "flatten": (lambda x: x.permute(1, 0, 2).flatten(0, 1), a),
    "slice": (lambda x: (x[1:, ::2, -3:], x.exp()[:, 1:4], x[0, -1], x.exp()[:, 2]), a),
    "flip": (lambda x: x.flip(-1, 0), a),
    "cat": (lambda x, y: torch.cat([x, y[:, :2], x.exp()], 1), a, b),
    "stack": (lambda x, y: torch.stack([x, y], -1), a, b),
    "pad": (lambda x: F.pad(x, (1, 2, 0, 3), value=0.5), a),
    "assign": (lambda x, y: _assigned(x, y), a, b),
    "repeat": (lambda x: x.repeat(2, 1, 1), a),
    "index": (lambda x, y: (x[:, y], x[y.clamp(max=2)], x[y.clamp(max=2), y]), a, few),
    "gather": (lambda x, y: x.gather(1, y), big[:3, :5], few),
    "index_select": (lambda x, y: x.index_select(1, y), a, few[0]),
    "sum": (lambda x: (x.sum(), x.sum(0), x.sum(1), x.sum((0, 2)), x.sum(2, keepdim=True)), a),
    "sum of truths": (lambda x: (x > 0).sum(-1), a),
    "mean": (lambda x: (x.mean(), x.mean(1), x.mean((0, 2), keepdim=True)), a),
    "prod": (lambda x: (x.prod(1), x[0, 0].prod()), a),
    "extremes": (lambda x: (x.amax(1), x.amin((0, 2)), x.max(), x.min()), a),
    "truths": (lambda x: ((x > 0).all(), (x > -9).all(1), (x > 1).any(), (x > 1).any(-1)), a),
    "norm": (lambda x: (x.norm(), x.norm(dim=1, keepdim=True)), a),
    "argmax": (lambda x, y: (x.argmax(1), x.argmax(-1, keepdim=True), y.argmax(0)), a, special),
    "cumulative": (lambda x: (x.cumsum(1), x.cumprod(0)), a),
    "softmax": (lambda x: (x.softmax(1), x.log_softmax(-1)), a),
    "mm": (lambda x, y: x @ y, big, tall),
    "mm transposed": (lambda x, y: x.mT @ y.mT, tall, big),
    "bmm": (lambda x, y: (x @ y.mT, x.mT @ y), a, b),
    "bmm shared": (lambda x, y: x @ y, a, big[:7, :20]),
    "outer": (lambda x, y: x[:, None] @ y[None], row, row),
    "baddbmm": (lambda x, y: torch.baddbmm(y[:, :, :1], x, y.mT), a, b),
    "vector": (lambda x, y: (x @ y, y @ x.mT), a, row),
    "sort": (lambda x: x.sort(stable=True), few),
    "argsort": (lambda x: x.argsort(stable=True, dim=-1), words),
    "var": (lambda x: torch.var_mean(x, 1, correction=0), a),
    "convolution": (lambda x, y: F.conv2d(x, y, padding=1, groups=2), images, filters),
    "pooling": (lambda x: F.avg_pool2d(x, 2), images),
    "convolution's gradient": (lambda x, y: torch.func.grad(lambda p: F.conv2d(p[0], p[1], padding=1, groups=2).exp().sum())((x / 9, y / 9)), images, filters),
    "batch normalization": (lambda x: F.batch_norm(x, None, None, training=True), images),
    "norms out of range": (norm, far),
    "clipped out of range": (lambda x: clipped(x, torch.tensor([[1.0]])), far),
    "nothing over nothing": (over, far, far * (far > 1)),
    "pooling's gradient": (lambda x: torch.func.grad(lambda p: F.avg_pool2d(p, 2).exp().sum())(x), images),
}  # fmt: skip
#: those that add up many numbers, in another order than PyTorch
CLOSE = ("mm", "mm transposed", "bmm", "bmm shared", "baddbmm", "vector", "sum", "mean", "norm", "prod", "cumulative", "var",
         "convolution", "convolution's gradient", "pooling", "addcmul", "batch normalization")  # fmt: skip


def _assigned(x, y):
    x, z = x.clone(), x.clone()
    x[:, 1:3] = y[:, :2]
    z[:, 4] = y[:, 0]
    return x, z


def _list(result):
    return list(result) if isinstance(result, tuple | list) else [result]


@pytest.fixture(scope="module")
def computed():
    """Name of a case -> results of the page and of PyTorch; all cases are compiled into one module."""
    functions, variables, data, expected, targets = [], {}, {}, {}, set()
    for number, (name, (function, *inputs)) in enumerate(CASES.items()):
        T = _Tracer()
        for k, tensor in enumerate(inputs):
            T.variable(f"x{number}_{k}", *tensor.shape, dtype=tensor.dtype)
            data[f"x{number}_{k}"] = tensor.contiguous()
        outputs = _list(function(*inputs))
        expected[name] = [(f"y{number}_{k}", y) for k, y in enumerate(outputs)]
        T.trace(f"case{number}", lambda v, f=function, n=number: {f"y{n}_{k}": y for k, y in enumerate(_list(f(*v.values())))})
        functions += T.functions
        variables |= T.variables | {f"y{number}_{k}": y for k, y in enumerate(outputs)}
        targets |= {str(n.target).removeprefix("aten.") for n in T.functions[0].graph.graph.nodes if n.op == "call_function"}
    _, code = lowered(Program(functions, variables, data, [], [], False), 1, 1)
    calls = " ".join(f"f_{f.name}();" for f in functions)
    store = wasmtime.Store()
    module = wasmtime.Module(store.engine, build(f"{code}\nEXPORT void run(void) {{ {calls} }}"))
    exports = wasmtime.Instance(store, module, []).exports(store)
    for name, tensor in data.items():
        exports["memory"].write(store, tensor.numpy().tobytes(), exports[name].value(store))
    exports["run"](store)
    results = {}
    for name, outputs in expected.items():
        results[name] = []
        for variable, y in outputs:
            start = exports[variable].value(store)
            raw = bytes(exports["memory"].read(store, start, start + y.numel() * y.element_size()))
            results[name].append((np.frombuffer(raw, y.numpy().dtype).reshape(y.shape), y.numpy()))
    return results, targets


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_pytorch(computed, name):
    for here, there in computed[0][name]:
        if there.dtype != np.float32:
            np.testing.assert_array_equal(here, there)
        elif name in CLOSE:
            np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-5)
        else:  # a few units in the last place
            np.testing.assert_allclose(here, there, rtol=6e-7, atol=1e-37)


def test_no_operation_is_left_out(computed):
    used = {target.partition(".")[0] for target in computed[1]}
    assert {name.partition(".")[0] for name in OPS} <= used


def traced(function, *inputs):
    T = _Tracer()
    for k, tensor in enumerate(inputs):
        T.variable(f"x{k}", *tensor.shape, dtype=tensor.dtype)
    T.trace("f", lambda v: {"y": function(*v.values())})
    T.variables["y"] = function(*inputs)
    return lowered(Program(T.functions, T.variables, {}, [], [], False), 1, 1)


def test_refuses_by_name_and_place():
    with pytest.raises(Unsupported, match="erfinv") as refused:
        traced(lambda x: torch.erfinv(x), a)
    assert "test_browser_kernels.py" in refused.value.where and "erfinv" in refused.value.op
    with pytest.raises(Unsupported, match="vector norm"):
        traced(lambda x: torch.linalg.vector_norm(x, 3), a)
    with pytest.raises(Unsupported, match="stride"):
        traced(lambda x, y: F.conv2d(x, y, stride=2, groups=2), images, filters)


def test_refuses_what_looks_at_values():
    with pytest.raises(Unsupported, match="DataDependent"):
        traced(lambda x: x if x.sum() > 0 else -x, a)
