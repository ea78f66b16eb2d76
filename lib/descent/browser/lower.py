"""From a traced graph to plain C.

Every value of the graph is an *indexable*: a shape and a function from index expressions to a C
expression. Views, broadcasts and elementwise operations only compose such functions, so that a chain
of them becomes one loop; what is used twice, or by a kernel of `kernels.c` that wants memory, is
written to a buffer first. Each operation is one entry of a table, `OPS`.

The batch size is the one size that may be symbolic. Buffers have the addresses that fit the
largest one, the loops run to the current one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch import fx

Size = sympy.Expr
Index = list[str]

CTYPE = {torch.float32: "float", torch.float64: "double", torch.int64: "long long", torch.int32: "int",
         torch.uint32: "unsigned", torch.bool: "unsigned char"}  # fmt: skip


def _product(sizes: Sequence[Size]) -> Size:
    return sympy.Mul(*sizes)


class Unsupported(Exception):
    """An operation that the page cannot run.

    Attributes:
        op: its name.
        where: the line of source that used it, if known.
    """

    def __init__(self, op: str, where: str = "") -> None:
        super().__init__(f"{op} cannot be run in the page" + (f"; it is used by {where}" if where else ""))
        self.op, self.where = op, where


@dataclass(eq=False)
class Buffer:
    """Memory for the elements of one tensor, row by row.

    Attributes:
        name: of the C pointer.
        persistent: it is a variable of the module, not scratch memory of one function.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[Size, ...]
    persistent: bool = False

    def bytes(self, largest: int) -> int:
        count = _product(self.shape)
        return int(count.subs({s: largest for s in count.free_symbols})) * self.dtype.itemsize


@dataclass(eq=False)
class Value:
    """A tensor of the graph.

    Attributes:
        at: C expression of the element at an index.
        strides, offset: where the element lies in `buffer`, if it lies in one.
        cheap: computing it twice costs nothing.
    """

    shape: tuple[Size, ...]
    dtype: torch.dtype
    at: Callable[[Index], str]
    buffer: Buffer | None = None
    strides: tuple[Size, ...] = ()
    offset: Size = sympy.Integer(0)
    cheap: bool = False

    @property
    def size(self) -> Size:
        return _product(self.shape)


def _c(size: Any) -> str:
    """A size in C."""
    size = sympy.expand(sympy.sympify(size))
    text = str(size)
    if not size.is_polynomial() or "**" in text and not size.free_symbols:
        raise Unsupported(f"a tensor of size {size}")
    return text if size.is_Atom else f"({text})"


def _number(value: float | int | bool, dtype: torch.dtype) -> str:
    """A Python number in C, of a dtype."""
    if dtype.is_floating_point:
        value = float(value)
        if math.isnan(value):
            return "__builtin_nanf(\"\")"
        if math.isinf(value):
            return "(-__builtin_inff())" if value < 0 else "__builtin_inff()"
        return f"{value!r}f" if dtype == torch.float32 else repr(value)
    return f"{int(value)}LL" if dtype == torch.int64 else f"{int(value)}"


def _sum(terms: Sequence[tuple[str, Size]], offset: Size) -> str:
    parts = [index if stride == 1 else f"{index} * {_c(stride)}" for index, stride in terms if stride != 0 and index != "0"]
    if offset != 0:
        parts.append(_c(offset))
    return " + ".join(parts) or "0"


class Lowering:
    """The C function of one graph."""

    def __init__(self, name: str, largest: int) -> None:
        self.name, self.largest = name, largest
        self.statements: list[tuple[str, set[Buffer], set[Buffer]]] = []  # code, buffers read, buffers written
        self.reads: set[Buffer] = set()
        self.buffers: list[Buffer] = []
        self.fresh = 0

    # -- values

    def number(self, value: Any, dtype: torch.dtype, shape: Sequence[Size] = ()) -> Value:
        """A tensor filled with one number."""
        if isinstance(value, sympy.Expr):
            above, below = sympy.fraction(value)
            text = f"(({CTYPE[dtype]}){_c(above)} / {_c(below)})" if below != 1 else f"(({CTYPE[dtype]}){_c(above)})"
        else:
            text = _number(value, dtype)
        return Value(tuple(shape), dtype, lambda index: text, cheap=True)

    def view(self, buffer: Buffer, shape: Sequence[Size], strides: Sequence[Size], offset: Size = sympy.Integer(0)) -> Value:
        shape, strides = tuple(shape), tuple(strides)

        def at(index: Index) -> str:
            self.reads.add(buffer)
            return f"{buffer.name}[{_sum(list(zip(index, strides)), offset)}]"

        return Value(shape, buffer.dtype, at, buffer, strides, offset, cheap=True)

    def whole(self, buffer: Buffer) -> Value:
        return self.view(buffer, buffer.shape, contiguous(buffer.shape))

    def new(self, shape: Sequence[Size], dtype: torch.dtype) -> Buffer:
        buffer = Buffer(f"{self.name}_{len(self.buffers)}", dtype, tuple(map(sympy.sympify, shape)))
        self.buffers.append(buffer)
        return buffer

    def stored(self, value: Value) -> Value:
        """The same tensor in a buffer of its own, if it is in none."""
        if value.buffer is not None:
            return value
        buffer = self.new(value.shape, value.dtype)
        self.store(value, self.whole(buffer))
        return self.whole(buffer)

    def packed(self, value: Value) -> Value:
        """The same tensor row by row in a buffer."""
        if value.buffer is not None and value.strides == contiguous(value.shape):
            return value
        return self.stored(Value(value.shape, value.dtype, value.at))

    def broadcast(self, value: Value, shape: Sequence[Size]) -> Value:
        """`value` expanded to `shape`; what takes work is computed before, once."""
        shape = tuple(shape)
        if value.shape == shape:
            return value
        if not value.cheap and value.size != 1:
            value = self.stored(value)
        lead = len(shape) - len(value.shape)
        repeated = [have == 1 and want != 1 for have, want in zip(value.shape, shape[lead:])]
        if value.buffer is not None:
            strides = (sympy.Integer(0),) * lead + tuple(sympy.Integer(0) if r else s for r, s in zip(repeated, value.strides))
            return self.view(value.buffer, shape, strides, value.offset)
        def at(index: Index) -> str:
            return value.at(["0" if r else k for r, k in zip(repeated, index[lead:])])

        return Value(shape, value.dtype, at, cheap=value.cheap)

    # -- code

    def emit(self, code: str, reads: set[Buffer], writes: set[Buffer]) -> None:
        self.statements.append((code, reads, writes))

    def expression(self, value: Value, index: Index) -> tuple[str, set[Buffer]]:
        """An element in C, and the buffers that it is read from."""
        self.reads = set()
        text = value.at(index)
        return text, self.reads

    def index(self, shape: Sequence[Size]) -> Index:
        """Fresh names of loop variables, "0" where there is nothing to loop over."""
        self.fresh += 1
        return ["0" if n == 1 else f"i{self.fresh}_{d}" for d, n in enumerate(shape)]

    def store(self, value: Value, target: Value) -> None:
        """Compute every element."""
        index = self.index(value.shape)
        text, reads = self.expression(value, index)
        place, _ = self.expression(target, index)
        self.emit(loops(index, value.shape, f"{place} = {text};"), reads, {target.buffer})

    def reduce(self, value: Value, dims: Sequence[int], keep: bool, combine: str, start: str, dtype: torch.dtype) -> Value:
        """Combine the elements along `dims`, in the order of memory; the innermost loop in a register if it is one of `dims`."""
        kept = tuple(sympy.Integer(1) if d in dims else n for d, n in enumerate(value.shape))
        out = self.whole(self.new(kept, dtype))
        index = self.index(value.shape)
        text, reads = self.expression(value, index)
        place, _ = self.expression(out, ["0" if d in dims else k for d, k in enumerate(index)])
        self.store(Value(kept, dtype, lambda i: start), out)
        looped = [d for d, k in enumerate(index) if k != "0"]
        if looped and looped[-1] in dims:
            last = looped[-1]
            inner = loops([index[last]], [value.shape[last]], f"a = {combine.format('a', text)};")
            body = f"{CTYPE[dtype]} a = {start}; {inner} {place} = {combine.format(place, 'a')};"
            outer = [(k, n) for d, (k, n) in enumerate(zip(index, value.shape)) if d != last]
            code = loops([k for k, _ in outer], [n for _, n in outer], body, safe=False)
        else:
            code = loops(index, value.shape, f"{place} = {combine.format(place, text)};")
        self.emit(code, reads | {out.buffer}, {out.buffer})
        return out if keep else self.without(out, dims)

    def without(self, value: Value, dims: Sequence[int]) -> Value:
        """A value in memory without some dimensions of size one."""
        left = [d for d in range(len(value.shape)) if d not in dims]
        return self.view(value.buffer, [value.shape[d] for d in left], [value.strides[d] for d in left], value.offset)

    def finish(self) -> tuple[str, int]:
        """The function, and the bytes of scratch memory that it needs. A buffer's memory is used again after its last use."""
        spans: dict[Buffer, list[int]] = {}
        for time, (_, reads, writes) in enumerate(self.statements):
            for buffer in reads | writes:
                spans.setdefault(buffer, [time, time])[1] = time
        placed: list[tuple[int, int, list[int]]] = []  # first byte, beyond the last, when
        lines = []
        for buffer in sorted((b for b in self.buffers if b in spans), key=lambda b: spans[b][0]):
            first, last = spans[buffer]
            size, start = -(-max(1, buffer.bytes(self.largest)) // 16) * 16, 0
            for a, b, (since, until) in sorted(placed, key=lambda p: p[0]):
                if since <= last and first <= until and a < start + size and start < b:
                    start = b
            placed.append((start, start + size, [first, last]))
            lines.append(f"{CTYPE[buffer.dtype]} *const {buffer.name} = (void *)(scratch + {start});")
        body = "\n  ".join(lines + [code for code, _, _ in self.statements])
        return f"static void {self.name}(void) {{\n  {body}\n}}\n", max((b for _, b, _ in placed), default=0)


def contiguous(shape: Sequence[Size]) -> tuple[Size, ...]:
    strides = [sympy.Integer(1)]
    for n in reversed(shape[1:]):
        strides.append(strides[-1] * n)
    return tuple(reversed(strides)) if shape else ()


def loops(index: Index, shape: Sequence[Size], body: str, safe: bool = True) -> str:
    """`body` in a loop per index. The elements of a `safe` innermost loop do not depend on each other."""
    variables = [(k, n) for k, n in zip(index, shape) if k != "0"]
    code = f"{{ {body} }}" if not variables else body
    for depth, (k, n) in enumerate(reversed(variables)):
        pragma = "\n#pragma clang loop vectorize(assume_safety)\n  " if safe and depth == 0 else ""
        code = f"{pragma}for (int {k} = 0; {k} < {_c(n)}; {k}++) {{ {code} }}"
    return code


# -- the table ---------------------------------------------------------------------------

#: name of an operation -> its lowering: (Lowering, node, arguments) -> Value
OPS: dict[str, Callable[..., Any]] = {}


def op(*names: str) -> Callable:
    def register(function: Callable) -> Callable:
        OPS.update({name: function for name in names})
        return function

    return register


def _with(index: Index, dim: int, text: str) -> Index:
    return [*index[:dim], text, *index[dim + 1 :]]


def _shape(node: fx.Node) -> tuple[Size, ...]:
    return tuple(_size(n) for n in node.meta["val"].shape)


def _size(n: Any) -> Size:
    return n.node.expr if isinstance(n, torch.SymInt) else sympy.Integer(n)


def _operands(L: Lowering, node: fx.Node, arguments: Sequence[Any], dtype: torch.dtype) -> list[Value]:
    shape = _shape(node)
    values = [a if isinstance(a, Value) else L.number(a, dtype) for a in arguments]
    return [L.broadcast(v, shape) for v in values]


#: elementwise operations whose operands and result have one dtype
ELEMENTWISE = {
    "mul": "({} * {})", "neg": "(-{})", "abs": "ABS({})", "sign": "SIGN({})", "reciprocal": "(1 / {})",
    "sqrt": "SQRT({})", "rsqrt": "(1 / SQRT({}))", "exp": "expf_({})", "expm1": "expm1f_({})", "log": "logf_({})",
    "log1p": "log1pf_({})", "tanh": "tanhf_({})", "sin": "sinf_({})", "cos": "cosf_({})", "sigmoid": "(1 / (1 + expf_(-{})))",
    "relu": "MAX({}, 0)", "maximum": "MAX({}, {})", "minimum": "MIN({}, {})", "floor": "__builtin_floorf({})",
    "bitwise_and": "({} & {})", "bitwise_or": "({} | {})", "bitwise_xor": "({} ^ {})",
    "__lshift__": "SHL({}, {})", "__rshift__": "({} >> {})",
    "remainder": "MOD({}, {})",
}  # fmt: skip
#: those whose result is a truth value: the operands have their own dtype
COMPARISONS = {
    "eq": "({} == {})", "ne": "({} != {})", "lt": "({} < {})", "le": "({} <= {})", "gt": "({} > {})", "ge": "({} >= {})",
    "logical_and": "({} && {})", "logical_or": "({} || {})", "logical_not": "(!{})", "isnan": "({0} != {0})",
    "isinf": "(ABS({}) == __builtin_inff())",
}  # fmt: skip


def _pointwise(L: Lowering, node: fx.Node, template: str, values: list[Value], compute: torch.dtype) -> Value:
    """An elementwise operation, computed in the dtype `compute`."""
    dtype = node.meta["val"].dtype
    if compute == torch.float64 and "f_(" in template:
        raise Unsupported(f"{node.target} in double precision")

    def at(index: Index) -> str:
        texts = [v.at(index) if v.dtype == compute else f"(({CTYPE[compute]}){v.at(index)})" for v in values]
        return template.format(*texts)

    return Value(_shape(node), dtype, at)


def _elementwise(template: str, compare: bool) -> Callable:
    def lower(L: Lowering, node: fx.Node, *arguments: Any) -> Value:
        dtypes = [a.dtype for a in arguments if isinstance(a, Value)]
        compute = dtypes[0]
        for d in dtypes[1:]:
            compute = torch.promote_types(compute, d)
        if compare and not compute.is_floating_point and any(isinstance(a, float) for a in arguments):
            compute = torch.float32
        if not compare:
            compute = node.meta["val"].dtype
        if compute.is_floating_point and template.startswith(("MOD", "SHL", "({} >>")):
            raise Unsupported(f"{node.target} of numbers that are not whole")
        return _pointwise(L, node, template, _operands(L, node, arguments, compute), compute)

    return lower


OPS.update({name: _elementwise(template, compare=False) for name, template in ELEMENTWISE.items()})
OPS.update({name: _elementwise(template, compare=True) for name, template in COMPARISONS.items()})


@op("bitwise_not")
def _not(L, node, a):
    template = "(!{})" if a.dtype == torch.bool else "(~{})"
    return _pointwise(L, node, template, [a], a.dtype)


@op("add", "sub")
def _add(L, node, a, b, alpha=1):
    dtype, sign = node.meta["val"].dtype, "+" if "add" in str(node.target) else "-"
    template = f"({{}} {sign} {{}})" if alpha == 1 else f"({{}} {sign} {_number(alpha, dtype)} * {{}})"
    return _pointwise(L, node, template, _operands(L, node, (a, b), dtype), dtype)


@op("div")
def _div(L, node, a, b, rounding_mode=None):
    dtype = node.meta["val"].dtype
    if dtype.is_floating_point:
        template = {None: "({} / {})", "floor": "__builtin_floorf({} / {})", "trunc": "__builtin_truncf({} / {})"}[rounding_mode]
    else:
        template = "({} / {})" if rounding_mode == "trunc" else "DIV({}, {})"
    return _pointwise(L, node, template, _operands(L, node, (a, b), dtype), dtype)


@op("pow")
def _pow(L, node, a, b):
    dtype = node.meta["val"].dtype
    if isinstance(b, int | float) and b in range(1, 9):
        base = L.stored(a) if b > 2 and not a.cheap else a
        return _pointwise(L, node, "(" + " * ".join(["{0}"] * int(b)) + ")", [base], dtype)
    if isinstance(b, float) and b == 0.5:
        return _pointwise(L, node, "SQRT({})", [a], dtype)
    return _pointwise(L, node, "powf_({}, {})", _operands(L, node, (a, b), dtype), dtype)


@op("where")
def _where(L, node, condition, a, b):
    dtype, shape = node.meta["val"].dtype, _shape(node)
    c, (a, b) = L.broadcast(condition, shape), _operands(L, node, (a, b), dtype)
    cast = f"({CTYPE[dtype]})"
    return Value(shape, dtype, lambda i: f"({c.at(i)} ? {cast}{a.at(i)} : {cast}{b.at(i)})")


@op("clamp")
def _clamp(L, node, a, low=None, high=None, min=None, max=None):
    low, high, dtype = low if min is None else min, high if max is None else max, node.meta["val"].dtype
    template, arguments = "{}", [a]
    for bound, name in ((low, "MAX"), (high, "MIN")):
        if bound is not None:
            arguments.append(bound)
            template = f"{name}({template}, {{}})"
    return _pointwise(L, node, template, _operands(L, node, arguments, dtype), dtype)


@op("leaky_relu")
def _leaky_relu(L, node, a, slope=0.01):
    return _pointwise(L, node, f"({{0}} > 0 ? {{0}} : {_number(slope, a.dtype)} * {{0}})", [a], a.dtype)


# -- making tensors


@op("full", "full_like", "scalar_tensor")
def _full(L, node, *arguments, **_):
    value = arguments[0] if "scalar_tensor" in str(node.target) else arguments[-1]
    return L.number(value, node.meta["val"].dtype, _shape(node))


@op("empty")
def _zeros(L, node, *_, **__):
    return L.number(0, node.meta["val"].dtype, _shape(node))


@op("arange")
def _arange(L, node, *arguments, **_):
    dtype = node.meta["val"].dtype
    start, step = (0, 1) if len(arguments) == 1 else (arguments[0], arguments[2] if len(arguments) > 2 else 1)
    text = f"(({CTYPE[dtype]})({start} + {step} * {{}}))"
    return Value(_shape(node), dtype, lambda i: text.format(i[0]), cheap=True)


# -- views


@op("clone", "alias", "lift_fresh_copy")
def _same(L, node, a, **_):
    return a


@op("copy")
def _copy(L, node, into, a, **_):
    return L.broadcast(_convert(L, node, a), into.shape)


@op("_to_copy")
def _convert(L, node, a, *_, **__):
    dtype = node.meta["val"].dtype
    if dtype == a.dtype:
        return a
    template = "({} != 0)" if dtype == torch.bool else f"(({CTYPE[dtype]}){{}})"
    return Value(a.shape, dtype, lambda i: template.format(a.at(i)), cheap=a.cheap)


@op("expand")
def _expand(L, node, a, *_, **__):
    return L.broadcast(a, _shape(node))


@op("permute")
def _permute(L, node, a, dims):
    shape = tuple(a.shape[d] for d in dims)
    if a.buffer is not None:
        return L.view(a.buffer, shape, [a.strides[d] for d in dims], a.offset)
    back = [list(dims).index(d) if d in dims else list(dims).index(d - len(dims)) for d in range(len(dims))]
    return Value(shape, a.dtype, lambda i: a.at([i[b] for b in back]), cheap=a.cheap)


@op("unsqueeze", "squeeze", "view")
def _view(L, node, a, *_):
    """Another shape for the same elements in the same order."""
    shape = _shape(node)
    if shape == a.shape:
        return a
    kept = [d for d, n in enumerate(a.shape) if n != 1]
    if [a.shape[d] for d in kept] == [n for n in shape if n != 1]:  # only ones come and go
        source = iter(kept)
        come = [None if n == 1 else next(source) for n in shape]
        if a.buffer is not None:
            return L.view(a.buffer, shape, [sympy.Integer(0) if d is None else a.strides[d] for d in come], a.offset)

        def at(index: Index) -> str:
            given = ["0"] * len(a.shape)
            for k, d in zip(index, come):
                if d is not None:
                    given[d] = k
            return a.at(given)

        return Value(shape, a.dtype, at, cheap=a.cheap)
    if a.cheap and a.buffer is None and node.args[0].op == "call_function" and "full" in str(node.args[0].target):
        return Value(shape, a.dtype, lambda i: a.at(["0"] * len(a.shape)), cheap=True)
    strides = _strides(L.stored(a), shape)
    if strides is None:
        a = L.packed(a)
        strides = contiguous(shape)
    a = L.stored(a)
    return L.view(a.buffer, shape, strides, a.offset)


def _strides(a: Value, shape: tuple[Size, ...]) -> tuple[Size, ...] | None:
    """Strides of `a` in another shape, or None if it would have to be copied."""
    have = [(n, s) for n, s in zip(a.shape, a.strides) if n != 1]
    strides, rest = [], list(shape)
    while have:
        n, s = have.pop()
        while have and have[-1][1] == sympy.expand(n * s):  # dimensions that lie one in the other
            n = have.pop()[0] * n
        step, filled = s, sympy.Integer(1)
        while rest and filled != n:
            size = rest.pop()
            strides.append(step)
            step, filled = step * size, sympy.expand(filled * size)
            quotient = sympy.cancel(n / filled)
            if quotient.is_number and not quotient.is_integer or not quotient.is_polynomial():
                return None
        if filled != n:
            return None
    strides += [sympy.Integer(0)] * len(rest)
    return tuple(reversed(strides))


@op("slice")
def _slice(L, node, a, dim=0, start=None, end=None, step=1):
    n = a.shape[dim]
    start = sympy.sympify(0 if start is None else start)
    start = start + n if start.is_negative else start
    if start.is_number and n.is_number:
        start = sympy.Min(start, n)
    dim, shape = dim % len(a.shape), _shape(node)
    if a.buffer is not None:
        strides = [s * step if d == dim else s for d, s in enumerate(a.strides)]
        return L.view(a.buffer, shape, strides, a.offset + start * a.strides[dim])
    return Value(shape, a.dtype, lambda i: a.at(_with(i, dim, f"({_sum([(i[dim], sympy.Integer(step))], start)})")), cheap=a.cheap)


@op("select")
def _select(L, node, a, dim, position):
    dim, position = dim % len(a.shape), sympy.sympify(position)
    position = position + a.shape[dim] if position.is_negative else position
    others = [d for d in range(len(a.shape)) if d != dim]
    shape = tuple(a.shape[d] for d in others)
    if a.buffer is not None:
        return L.view(a.buffer, shape, [a.strides[d] for d in others], a.offset + position * a.strides[dim])
    return Value(shape, a.dtype, lambda i: a.at([*i[:dim], _c(position), *i[dim:]]), cheap=a.cheap)


@op("flip")
def _flip(L, node, a, dims):
    dims = {d % len(a.shape) for d in dims}

    def at(index: Index) -> str:
        return a.at([f"({_c(n - 1)} - {k})" if d in dims else k for d, (k, n) in enumerate(zip(index, a.shape))])

    return Value(a.shape, a.dtype, at)


# -- pieces


@op("cat")
def _cat(L, node, tensors, dim=0):
    shape = _shape(node)
    out, start, dim = L.whole(L.new(shape, node.meta["val"].dtype)), sympy.Integer(0), dim % len(shape)
    for a in tensors:
        if len(a.shape) != len(shape):  # an old custom lets empty tensors of any shape in
            continue
        L.store(a, L.view(out.buffer, a.shape, out.strides, start * out.strides[dim]))
        start = start + a.shape[dim]
    return out


@op("constant_pad_nd")
def _pad(L, node, a, pad, value=0):
    before = [0] * len(a.shape)
    for d in range(len(pad) // 2):
        before[len(a.shape) - 1 - d] = pad[2 * d]
    if not a.cheap:
        a = L.stored(a)
    fill = _number(value, a.dtype)

    def at(index: Index) -> str:
        inside = [f"{k} >= {b} && {k} < {_c(n + b)}" for k, n, b, m in zip(index, a.shape, before, _shape(node)) if n != m]
        return f"({' && '.join(inside) or 1} ? {a.at([f'({k} - {b})' if b else k for k, b in zip(index, before)])} : {fill})"

    return Value(_shape(node), a.dtype, at)


@op("repeat")
def _repeat(L, node, a, times):
    lead = len(times) - len(a.shape)

    def at(index: Index) -> str:
        return a.at([k if t == 1 else f"({k} % {_c(n)})" for k, n, t in zip(index[lead:], a.shape, times[lead:])])

    return Value(_shape(node), a.dtype, at)


@op("slice_scatter")
def _slice_scatter(L, node, a, source, dim=0, start=None, end=None, step=1):
    out = L.whole(L.new(a.shape, a.dtype))
    L.store(a, out)
    part = _slice(L, node, out, dim, start, end, step)
    L.store(source, L.view(out.buffer, source.shape, part.strides, part.offset))
    return out


@op("index")
def _index(L, node, a, indices):
    """Elements at computed positions. A position outside is moved inside: no data may reach beyond."""
    indexed = [d for d, i in enumerate(indices) if i is not None]
    if indexed != list(range(indexed[0], indexed[-1] + 1)) or any(indices[d].dtype == torch.bool for d in indexed):
        raise Unsupported("indexing with truth values, or by tensors that are not neighbours")
    first, shape, a = indexed[0], _shape(node), L.stored(a) if not a.cheap else a
    many = len(shape) - len(a.shape) + len(indexed)
    where = [L.broadcast(indices[d], shape[first : first + many]) for d in indexed]

    def at(i: Index) -> str:
        chosen = [f"inside({w.at(i[first : first + many])}, {_c(a.shape[d])})" for d, w in zip(indexed, where)]
        return a.at([*i[:first], *chosen, *i[first + many :]])

    return Value(shape, a.dtype, at)


@op("gather")
def _gather(L, node, a, dim, positions, **_):
    dim, a = dim % len(a.shape), a if a.cheap else L.stored(a)
    return Value(positions.shape, a.dtype, lambda i: a.at(_with(i, dim, f"inside({positions.at(i)}, {_c(a.shape[dim])})")))


@op("index_select")
def _index_select(L, node, a, dim, positions):
    dim, a = dim % len(a.shape), a if a.cheap else L.stored(a)
    return Value(_shape(node), a.dtype, lambda i: a.at(_with(i, dim, f"inside({positions.at([i[dim]])}, {_c(a.shape[dim])})")))


# -- reductions


def _dims(a: Value, dims: Any) -> list[int]:
    every = range(len(a.shape))
    dims = list(every) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    return [d % len(a.shape) for d in dims]


@op("sum")
def _sum_op(L, node, a, dims=None, keep=False, **_):
    dtype = node.meta["val"].dtype
    return L.reduce(_convert(L, node, a), _dims(a, dims), keep, "({} + {})", "0", dtype)


@op("mean")
def _mean(L, node, a, dims=None, keep=False, **_):
    count = _c(_product([a.shape[d] for d in _dims(a, dims)]))
    total = L.reduce(a, _dims(a, dims), keep, "({} + {})", "0", a.dtype)
    return Value(total.shape, a.dtype, lambda i: f"({total.at(i)} / {count})")


@op("prod")
def _prod(L, node, a, dims=None, keep=False, **_):
    return L.reduce(a, _dims(a, dims), keep, "({} * {})", "1", a.dtype)


@op("amax", "max")
def _amax(L, node, a, dims=None, keep=False):
    return L.reduce(a, _dims(a, dims), keep, "MAX({}, {})", "(-__builtin_inff())", a.dtype)


@op("amin", "min")
def _amin(L, node, a, dims=None, keep=False):
    return L.reduce(a, _dims(a, dims), keep, "MIN({}, {})", "__builtin_inff()", a.dtype)


@op("any")
def _any(L, node, a, dims=None, keep=False):
    return L.reduce(a, _dims(a, dims), keep, "({} || {})", "0", torch.bool)


@op("cumsum", "cumprod")
def _cumulative(L, node, a, dim, **_):
    sign, dim, shape = "*" if "prod" in str(node.target) else "+", dim % len(a.shape), _shape(node)
    out, index = L.whole(L.new(shape, a.dtype)), L.index(shape)
    text, reads = L.expression(a, index)
    place, _ = L.expression(out, index)
    before, _ = L.expression(out, _with(index, dim, f"({index[dim]} - 1)"))
    code = f"{place} = {text};" if index[dim] == "0" else f"{place} = {index[dim]} ? {before} {sign} {text} : {text};"
    L.emit(loops(index, shape, code, safe=False), reads, {out.buffer})
    return out


@op("linalg_vector_norm")
def _norm(L, node, a, order=2, dims=None, keep=False, **_):
    if order != 2:
        raise Unsupported(f"a vector norm of order {order}")
    a = a if a.cheap else L.stored(a)
    squares = Value(a.shape, a.dtype, lambda i: f"({a.at(i)} * {a.at(i)})")
    total = L.reduce(squares, _dims(a, dims), keep, "({} + {})", "0", a.dtype)
    return Value(total.shape, a.dtype, lambda i: f"SQRT({total.at(i)})")


@op("argmax")
def _argmax(L, node, a, dim=None, keep=False):
    """The first position of the largest element along one dimension; NaN counts as the largest."""
    if dim is None:
        raise Unsupported("argmax over all dimensions")
    dim, a = dim % len(a.shape), a if a.cheap else L.stored(a)
    kept = tuple(sympy.Integer(1) if d == dim else n for d, n in enumerate(a.shape))
    out, index = L.whole(L.new(kept, torch.int64)), L.index(kept)
    text, reads = L.expression(a, _with(index, dim, "j"))
    place, _ = L.expression(out, index)
    body = f"float best = -__builtin_inff(); int found = 0; for (int j = 0; j < {_c(a.shape[dim])}; j++) {{ float v = {text}; " \
           f"if (v > best || (v != v && best == best)) {{ best = v; found = j; }} }} {place} = found;"  # fmt: skip
    L.emit(loops(index, kept, body, safe=False), reads, {out.buffer})
    return out if keep else L.without(out, [dim])


# -- kernels


@op("mm", "bmm")
def _matmul(L, node, a, b):
    a, b, shape = L.stored(a), L.stored(b), _shape(node)
    out = L.whole(L.new(shape, a.dtype))
    batch, sizes = (_c(shape[0]) if len(shape) == 3 else "1"), [_c(n) for n in (*shape[-2:], a.shape[-1])]

    def place(v: Value) -> str:
        strides = (*([sympy.Integer(0)] if len(v.shape) == 2 else []), *v.strides)
        return f"{v.buffer.name} + {_c(v.offset)}, " + ", ".join(_c(s) for s in strides)

    panel = L.new(b.shape[-2:], a.dtype)  # room to lay b out row by row
    code = f"matmul({batch}, {', '.join(sizes)}, {place(a)}, {place(b)}, {out.buffer.name}, {panel.name});"
    L.emit(code, {a.buffer, b.buffer}, {out.buffer, panel})
    return out


@op("sort")
def _sort(L, node, a, *_, dim=-1, descending=False, **__):
    if a.dtype.is_floating_point or descending or dim % len(a.shape) != len(a.shape) - 1:
        raise Unsupported("sorting anything but integers, upwards, along the last dimension")
    a = L.packed(Value(a.shape, torch.int64, a.at))
    values, order, room = (L.new(a.shape, torch.int64) for _ in range(3))
    rows, n = _product(a.shape[:-1]), a.shape[-1]
    code = f"for (int r = 0; r < {_c(rows)}; r++) sort({_c(n)}, {a.buffer.name} + {_c(a.offset)} + r * {_c(n)}, " \
           f"{values.name} + r * {_c(n)}, {order.name} + r * {_c(n)}, {room.name});"  # fmt: skip
    L.emit(code, {a.buffer}, {values, order, room})
    return L.whole(values), L.whole(order)


# -- a whole graph -----------------------------------------------------------------------


def lower(name: str, graph: fx.GraphModule, inputs: Sequence[Buffer], outputs: Sequence[Buffer], largest: int) -> tuple[str, int]:
    """The C of a graph that reads `inputs` and writes `outputs`, and the bytes of scratch memory that it needs.

    Args:
        largest: the largest value of the symbolic size.

    Raises:
        Unsupported: an operation is not in the table, or used in a way that its entry does not know.
    """
    L, known, waiting = Lowering(name, largest), {}, iter(inputs)

    def resolve(argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return known[argument]
        if isinstance(argument, list | tuple):
            return [resolve(a) for a in argument]
        return argument

    constants = []
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            known[node] = L.whole(next(waiting))
        elif node.op == "get_attr":
            tensor = getattr(graph, node.target)
            known[node] = _constant(L, f"{name}_c{len(constants)}", tensor, constants)
        elif node.op == "call_function":
            known[node] = _call(L, node, resolve)
        elif node.op == "output":
            (returned,) = node.args
            results = [L.stored(Value(v.shape, v.dtype, v.at)) if v.buffer is None or v.buffer.persistent else v
                       for v in map(resolve, returned)]  # fmt: skip
            for value, buffer in zip(results, outputs, strict=True):
                L.store(value, L.whole(buffer))
    code, scratch = L.finish()
    return "\n".join(constants) + "\n" + code, scratch


def _constant(L: Lowering, name: str, tensor: torch.Tensor, constants: list[str]) -> Value:
    """A tensor that the traced function closed over."""
    if tensor.numel() == 1:
        return L.number(tensor.item(), tensor.dtype, [sympy.Integer(n) for n in tensor.shape])
    dtype = tensor.dtype
    numbers = ", ".join(_number(v, dtype) for v in tensor.flatten().tolist())
    constants.append(f"static const {CTYPE[dtype]} {name}[] = {{{numbers}}};")
    return L.whole(Buffer(name, dtype, tuple(map(sympy.Integer, tensor.shape)), persistent=True))


def _call(L: Lowering, node: fx.Node, resolve: Callable[[Any], Any]) -> Any:
    target = getattr(node.target, "overloadpacket", node.target).__name__
    value = node.meta.get("val")
    if isinstance(value, torch.SymInt | int):
        return _size(value)
    if target == "truediv":
        above, below = map(resolve, node.args)
        return sympy.nsimplify(above) / sympy.nsimplify(below)
    if target == "getitem":
        return resolve(node.args[0])[node.args[1]]
    if target not in OPS:
        raise Unsupported(str(node.target), _source(node))
    try:
        result = OPS[target](L, node, *map(resolve, node.args), **{k: resolve(v) for k, v in node.kwargs.items()})
    except Unsupported as error:
        raise Unsupported(error.op, error.where or _source(node)) from None
    if isinstance(result, Value) and not result.cheap and result.buffer is None and len(node.users) > 1:
        return L.stored(result)
    return result


def _source(node: fx.Node) -> str:
    """The innermost line of source outside of PyTorch that led to an operation."""
    lines = [line.strip() for line in (node.stack_trace or "").splitlines()]
    return " ".join(lines[-2:])
