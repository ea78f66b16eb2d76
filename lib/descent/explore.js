/* The slider figure of Descent: one core for two hosts.
 *
 * In JupyterLab it is the front end of an anywidget; in a page without a kernel it mounts every
 * <figure class="descent-explorer" data-spec data-grid>. Both hand `mount` the same things:
 * a spec (names, values, axes) and the grid, one Float32Array of arrays laid end to end; and, where
 * there is one, the package with which `DescentTraining` (training.js) trains settings off the grid.
 */
var DescentExplorer = (() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  const SHAPES = new Set(["svg", "g", "path", "line", "rect", "text", "tspan", "circle", "defs", "pattern", "clipPath"]);
  const PANEL = { single: 290, stacked: 172, gap: 42, top: 30, bottom: 42 };
  const SNAP = { here: 0.02, kernel: 0.07 }; // a dragged slider this close to a trained value, in grid positions, is on it
  let mounted = 0;

  // ---- small tools ------------------------------------------------------------------------

  function node(tag, attributes = {}, ...children) {
    const element = SHAPES.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "style") element.style.cssText = value; // a content policy may forbid the attribute
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child != null));
    return element;
  }

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const last = (list) => list[list.length - 1];
  const superscript = (n) => String(n).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"["0123456789-".indexOf(c)]);

  /** A number for people: three digits, or as many as tell it from 1, powers of ten written out, a true minus sign. */
  function format(value, digits = digitsOf([value])) {
    if (typeof value !== "number") return String(value);
    if (Number.isNaN(value)) return "–";
    if (!Number.isFinite(value)) return value < 0 ? "−∞" : "∞";
    if (value === 0) return "0";
    const size = Math.abs(value);
    let text;
    if (Number.isInteger(value) && size < 1e6) {
      text = String(size).replace(/\B(?=(\d{3})+$)/g, size >= 1e4 ? "\u202f" : "");
    } else if (size >= 1e-3 && size < 1e5) {
      text = String(Number(size.toPrecision(digits)));
    } else {
      const [mantissa, exponent] = size.toExponential(digits - 1).split("e");
      text = (Number(mantissa) === 1 ? "" : Number(mantissa) + "×") + "10" + superscript(Number(exponent));
    }
    return (value < 0 ? "−" : "") + text;
  }

  /** Significant digits, 3 to 15, that tell these values apart, and those that are not 1 from 1; with `between`, values between neighbours too. */
  function digitsOf(values, between = false) {
    const numbers = values.filter(Number.isFinite), near = numbers.filter((v) => Math.abs(v - 1) > 1e-6 && Math.abs(v - 1) < 0.01);
    let digits = 3;
    const rounded = (v) => Number(v.toPrecision(digits)), all = new Set(numbers).size;
    while (digits < 15 && (new Set(numbers.map(rounded)).size < all || near.some((v) => rounded(v) === 1))) digits++;
    const close = (a, b) => Math.ceil(Math.log10(Math.max(Math.abs(a), Math.abs(b)) / Math.abs(b - a))) + 2;
    return between ? clamp(Math.max(digits, ...numbers.slice(1).map((v, i) => close(numbers[i], v))), 3, 15) : digits;
  }

  /** A value of a dimension for people: told apart from the dimension's others. */
  const told = (dim, value) => format(value, dim.values.includes(value) ? digitsOf(dim.values) : digitsOf(dim.values, true));

  /** Round numbers that cover low..high, about `count` of them. */
  function linearTicks(low, high, count) {
    const raw = (high - low) / Math.max(count, 1);
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].find((m) => m * power >= raw * 0.999) * power;
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) ticks.push(Number((i * step).toPrecision(12)));
    return ticks;
  }

  /** Powers of ten in low..high, thinned to `count`; with 2 and 5 between where fewer than three fit. */
  function logTicks(low, high, count) {
    const first = Math.ceil(Math.log10(low) - 1e-9), final = Math.floor(Math.log10(high) + 1e-9);
    const every = Math.max(1, Math.ceil((final - first + 1) / Math.max(count, 2)));
    const ticks = [];
    for (let e = Math.ceil(first / every) * every; e <= final; e += every) ticks.push(Number(`1e${e}`));
    if (final - first >= 2) return ticks;
    const dense = [];
    for (let e = first - 1; e <= final; e++) for (const m of [1, 2, 5]) dense.push(Number(`${m}e${e}`));
    const inside = dense.filter((t) => t >= low * (1 - 1e-9) && t <= high * (1 + 1e-9));
    return inside.length >= 2 ? inside : linearTicks(low, high, count);
  }

  /** The labels of ticks: all of them powers of ten where one of them has to be. */
  function tickLabels(ticks) {
    const wide = ticks.some((t) => t !== 0 && (Math.abs(t) < 1e-3 || Math.abs(t) > 1e5));
    const power = (t) => (t === 1 || t === 10 ? String(t) : "10" + superscript(Math.round(Math.log10(t))));
    const pure = ticks.every((t) => t > 0 && Math.abs(Math.log10(t) - Math.round(Math.log10(t))) < 1e-9);
    return ticks.map((t) => (wide && pure ? power(t) : format(t, digitsOf(ticks))));
  }

  /** Maps domain to range; `.ticks(n)` fits. On a log axis what is not positive falls below the axis. */
  function makeScale(domain, range, log) {
    const f = log ? (v) => Math.log10(v <= 0 ? domain[0] / 100 : v) : (v) => v;
    const a = f(domain[0]), k = (range[1] - range[0]) / (f(domain[1]) - a || 1);
    const scale = (value) => range[0] + k * (f(value) - a);
    scale.ticks = (count) => (log ? logTicks : linearTicks)(domain[0], domain[1], count);
    scale.invert = (pixel) => (log ? 10 ** ((pixel - range[0]) / k + a) : (pixel - range[0]) / k + a);
    return scale;
  }

  /** An SVG path through the finite points; a gap where a value is missing. */
  function linePath(xs, ys, x, y, bound = 4000) {
    let path = "", open = false;
    for (let i = 0; i < xs.length; i++) {
      const px = x(xs[i]), py = clamp(y(ys[i]), -bound, bound);
      if (!Number.isFinite(px) || Number.isNaN(py)) { open = false; continue; }
      path += (open ? "L" : "M") + px.toFixed(1) + "," + py.toFixed(1);
      open = true;
    }
    return path;
  }

  const finite = (values) => Array.from(values).filter(Number.isFinite).sort((a, b) => a - b);
  const middle = (sorted) => (sorted.length ? (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2 : NaN);

  /** Pointwise median over seeds; missing where fewer than half of them have a value. */
  function medianCurve(curves) {
    return curves[0].map((_, i) => {
      const values = finite(curves.map((curve) => curve[i]));
      return 2 * values.length >= curves.length ? middle(values) : NaN;
    });
  }

  /** The value at a position between, or a little beyond, grid values: geometric on a log dimension, three digits or as many as its neighbours need. */
  function valueAt(dim, position) {
    const i = clamp(Math.floor(position), 0, Math.max(dim.values.length - 2, 0)), t = position - i, [a, b] = [dim.values[i], dim.values[i + 1]];
    if (Number.isInteger(position) && position in dim.values) return dim.values[position];
    if (Math.abs(t) < 1e-6 || dim.kind === "choice") return a;
    const value = dim.log && a > 0 ? a * (b / a) ** t : a + (b - a) * t; // from zero there is no ratio
    const [low, high] = dim.range || [-Infinity, Infinity];
    return clamp(dim.integer ? Math.round(value) : Number(value.toPrecision(digitsOf([a, b], true))), low, high);
  }

  function positionOf(dim, value) {
    const exact = dim.values.indexOf(value);
    if (exact >= 0 || dim.kind === "choice") return Math.max(exact, 0);
    const above = dim.values.findIndex((v) => v > value), end = dim.values.length - 2;
    const i = clamp(above < 0 ? end : above - 1, 0, end), [a, b] = [dim.values[i], dim.values[i + 1]];
    const t = dim.log && a > 0 ? Math.log(value / a) / Math.log(b / a) : (value - a) / (b - a);
    return i + (dim.range ? t : clamp(t, 0, 1));
  }

  /** The positions at the ends of a slider: those of the grid, or of the range in which the page can train. */
  const ends = (dim, free) => (free ? [Math.ceil(100 * positionOf(dim, dim.range[0])) / 100, Math.floor(100 * positionOf(dim, dim.range[1])) / 100] : [0, dim.values.length - 1]);

  /** A table's line at a setting, linear between its nodes (or in their logarithms): one value, or one for each x. */
  function interpolate(pack, name, { nodes, log }, dims, setting) {
    const [f, g] = log ? [Math.log, Math.exp] : [Number, Number];
    const line = ([first, ...rest], index) => {
      if (!first) return Float64Array.from(slice(pack, name, index).values, f);
      const dim = dims.find((d) => d.name === first), list = nodes[first], value = setting[first];
      if (dim.kind === "choice") return line(rest, { ...index, [first]: list.indexOf(value) });
      const h = dim.log && list[0] > 0 ? Math.log : Number, i = clamp(list.findIndex((v) => v >= value) - 1, 0, list.length - 2);
      const t = clamp((h(value) - h(list[i])) / (h(list[i + 1]) - h(list[i])), 0, 1);
      const [low, high] = [i, i + 1].map((k) => line(rest, { ...index, [first]: k }));
      return low.map((v, k) => (t === 0 ? v : t === 1 ? high[k] : v + t * (high[k] - v))); // not by way of NaN or infinity
    };
    const array = pack.arrays.find((a) => a.name === name), outer = Object.keys(nodes).length;
    return { dims: array.dims.slice(outer), shape: array.shape.slice(outer), values: line(Object.keys(nodes), {}).map(g) };
  }

  /** The part of an array that is left when the dimensions named in `index` are fixed; they lead. */
  function slice(pack, name, index) {
    const array = pack.arrays.find((a) => a.name === name);
    if (!array) return null;
    let size = array.shape.reduce((a, b) => a * b, 1), begin = array.offset, d = 0;
    for (; d < array.dims.length && array.dims[d] in index; d++) {
      size /= array.shape[d];
      begin += size * index[array.dims[d]];
    }
    return { values: pack.grid.subarray(begin, begin + size), dims: array.dims.slice(d), shape: array.shape.slice(d) };
  }

  const rows = (part) => {
    const length = part.values.length / part.shape[0];
    return Array.from({ length: part.shape[0] }, (_, i) => part.values.subarray(i * length, (i + 1) * length));
  };

  const named = (q) => (q.symbol && q.symbol.length <= 8 ? q.symbol : q.label);
  const spread = (sorted) => (sorted.length > 1 ? ` (${format(sorted[0])} to ${format(last(sorted))} over ${sorted.length} seeds)` : "");

  // ---- controls ---------------------------------------------------------------------------

  /** A labelled native range input from one position to another; `changed(position)` is called as it moves. */
  function makeSlider(dim, id, fine, [begin, end], changed) {
    const input = node("input", {
      type: "range", id, min: begin, max: end, step: fine ? 0.01 : 1,
      "data-lm-suppress-shortcuts": "true", "data-dim": dim.name,
      "aria-label": dim.label + (dim.symbol ? ` ${dim.symbol}` : ""),
    });
    const value = node("span", { class: "dx-value", "aria-hidden": "true" });
    const ticks = node("div", { class: "dx-ticks", "aria-hidden": "true" });
    const share = (position) => (position - begin) / Math.max(end - begin, 1e-9);
    const mark = (position, kind) => ticks.append(node("i", { class: kind, style: `--p:${share(position)}` }));
    if (dim.values.length <= 41) dim.values.forEach((_, i) => mark(i, "dx-tick"));
    const snap = (p) => {
      const near = [Math.round(p), ...slider.stops].find((stop) => Math.abs(stop - p) < (dim.range ? SNAP.here : SNAP.kernel));
      return near === undefined ? p : near;
    };
    let keyed = false;
    input.addEventListener("keydown", (event) => {
      const direction = { ArrowRight: 1, ArrowUp: 1, PageUp: 1, ArrowLeft: -1, ArrowDown: -1, PageDown: -1 }[event.key];
      keyed = true;
      if (!fine || !direction) return;
      event.preventDefault(); // arrows move a tenth of the way to the next trained value; with Shift, or Page keys, to it
      const p = Number(input.value), whole = event.shiftKey || event.key.startsWith("Page");
      const next = whole ? (direction > 0 ? Math.floor(p + 1.001) : Math.ceil(p - 1.001)) : Math.round(10 * p + direction) / 10;
      input.value = clamp(next, begin, end);
      changed(Number(input.value));
    });
    input.addEventListener("pointerdown", () => { keyed = false; });
    input.addEventListener("input", () => {
      if (fine && !keyed) input.value = snap(Number(input.value));
      changed(Number(input.value));
    });
    const slider = {
      stops: [],
      element: node("div", { class: "dx-control" },
        node("label", { for: id },
          dim.symbol ? node("span", { class: "dx-symbol" }, dim.symbol) : null,
          node("span", { class: "dx-name" }, dim.label)),
        value, node("div", { class: "dx-track" }, ticks, input)),
      addStop(position) { slider.stops.push(position); mark(position, "dx-tick dx-own"); },
      show(position) {
        if (Math.abs(Number(input.value) - position) > 0.0051) input.value = position;
        input.style.setProperty("--p", share(position));
        value.textContent = told(dim, valueAt(dim, position));
        const text = value.textContent + (dim.unit ? ` ${dim.unit}` : "");
        input.setAttribute("aria-valuetext", text);
      },
    };
    return slider;
  }

  /** A row of choices: native radio buttons, drawn as segments. */
  function makeChoice(dim, id, changed) {
    const inputs = dim.values.map((value, i) => {
      const input = node("input", { type: "radio", name: id, id: `${id}-${i}`, value: i, "data-lm-suppress-shortcuts": "true", "data-dim": dim.name });
      input.addEventListener("change", () => changed(i));
      return input;
    });
    const segments = inputs.map((input, i) => [input, node("label", { for: input.id }, told(dim, dim.values[i]))]).flat();
    return {
      element: node("fieldset", { class: "dx-control dx-choice" },
        node("legend", {}, dim.symbol ? node("span", { class: "dx-symbol" }, dim.symbol) : null, node("span", { class: "dx-name" }, dim.label)),
        node("div", { class: "dx-segments" }, ...segments)),
      show(position) { inputs[position].checked = true; },
    };
  }

  // ---- drawing ----------------------------------------------------------------------------

  const text = (x, y, cls, words, attributes = {}) => node("text", { x, y, class: cls, ...attributes }, words);

  function heading(panel, x, y) {
    const words = text(x, y, "dx-heading", "", { style: `--c:var(--x-${panel.role})` });
    words.append(node("tspan", { class: "dx-quantity" }, panel.label + (panel.symbol ? ` ${panel.symbol}` : "")));
    if (panel.unit) words.append(node("tspan", { class: "dx-unit", dx: 6 }, panel.unit));
    return words;
  }

  const axisTitle = (axis) => axis.label + (axis.symbol ? ` ${axis.symbol}` : "") + (axis.unit ? ` (${axis.unit})` : "");

  function hatch(id) {
    return node("pattern", { id, width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      node("line", { x1: 0, y1: 0, x2: 0, y2: 7, class: "dx-hatch" }));
  }

  /** Stacked panels over one x axis. `layout` draws what never moves, `draw` what does. */
  function curvesView(spec, pack, id) {
    const axis = spec.axes[0];
    const xs = axis.values.filter((v) => !axis.log || v > 0);
    const skip = axis.values.length - xs.length; // step 0 has no place on a log axis
    const svg = node("svg", { role: "img", "aria-label": spec.alt });
    let x, frames;

    function layout(width) {
      const narrow = width < 480, one = spec.panels.length === 1;
      const height = one ? (narrow ? 250 : PANEL.single) : narrow ? 160 : PANEL.stacked;
      const left = narrow ? 44 : 54, right = narrow ? 10 : 80;
      const total = PANEL.top + spec.panels.length * height + (spec.panels.length - 1) * PANEL.gap + PANEL.bottom;
      svg.replaceChildren(node("defs", {}, hatch(`${id}-hatch`)));
      svg.setAttribute("width", width);
      svg.setAttribute("height", total);
      svg.setAttribute("viewBox", `0 0 ${width} ${total}`);
      x = makeScale([xs[0], last(xs)], [left, width - right], axis.log);
      frames = spec.panels.map((panel, i) => {
        const top = PANEL.top + i * (height + PANEL.gap), bottom = top + height;
        const y = makeScale(panel.domain, [bottom, top], panel.log);
        const clip = `${id}-clip-${i}`;
        svg.firstChild.append(node("clipPath", { id: clip }, node("rect", { x: left, y: top - 1, width: width - left - right, height: height + 2 })));
        svg.append(heading(panel, 0, top - 13));
        const ticks = y.ticks(height < 165 ? 4 : 5), words = tickLabels(ticks);
        ticks.forEach((tick, k) => svg.append(
          node("line", { class: "dx-grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
          text(left - 9, y(tick) + 4, "dx-tick-label", words[k], { "text-anchor": "end" })));
        svg.append(node("line", { class: "dx-axis", x1: left, x2: width - right, y1: bottom, y2: bottom }));
        const along = x.ticks(narrow ? 4 : 7);
        for (const tick of along) {
          svg.append(node("line", { class: "dx-axis", x1: x(tick), x2: x(tick), y1: bottom, y2: bottom + 4 }));
          if (i === spec.panels.length - 1) svg.append(text(x(tick), bottom + 18, "dx-tick-label", format(tick, digitsOf(along)), { "text-anchor": x(tick) > width - 16 ? "end" : "middle" })); // whole at the edge of a phone
        }
        const style = `--c:var(--x-${panel.role})`, layer = node("g", { style }), pointed = node("g", { style });
        svg.append(layer, pointed);
        return { panel, y, narrow, layer, pointed, clip: `url(#${clip})`, top, bottom, left, right: width - right, width };
      });
      svg.append(text(width - right, total - 5, "dx-axis-title", axisTitle(axis), { "text-anchor": "end" }));
    }

    /** Draws the run `at` (a pack and an index into it), `faded` if it is only the nearest one, over `others`. */
    function draw(at, faded, theoryAt, now, others = []) {
      return frames.map((frame) => {
        const { panel, y, layer } = frame;
        const seeds = rows(slice(at.pack, panel.name, at.index)).map((row) => row.subarray(skip));
        const median = medianCurve(seeds);
        const drawn = node("g", { "clip-path": frame.clip, class: faded ? "dx-faded" : "" });
        const labels = node("g", {});
        const died = divergence(at, axis, now.step);
        for (const [begin, end] of died.spans) {
          drawn.append(node("rect", {
            class: "dx-diverged", x: x(begin), y: frame.top, width: Math.max(x(end) - x(begin), 0), height: frame.bottom - frame.top,
            fill: `url(#${id}-hatch)`, opacity: 0.35 + 0.65 * died.share,
          }));
        }
        if (died.words && frame === frames[0]) {
          const from = clamp(x(died.spans[0][0]), frame.left, frame.right), leftward = from > (frame.left + frame.right) / 2;
          labels.append(text(leftward ? from - 6 : from + 7, frame.top + 16, "dx-note dx-diverged-note",
            died.words, { "text-anchor": leftward ? "end" : "start" }));
        }
        for (const other of others) {
          const ys = medianCurve(rows(slice(other.at.pack, panel.name, other.at.index)).map((row) => row.subarray(skip)));
          drawn.append(node("path", { class: other.cls, d: linePath(xs, ys, x, y) }));
          if (other.letter) letterAt(frame, labels, other.letter, ys);
        }
        if (seeds.length > 1) for (const row of seeds) drawn.append(node("path", { class: "dx-seed", d: linePath(xs, row, x, y) }));
        const theory = panel.theory.map((label, i) => theoryAt && { label, part: slice(theoryAt.pack, `theory:${panel.name}:${i}`, theoryAt.index) }).filter((line) => line && line.part);
        for (const { label, part } of theory) drawTheory(frame, drawn, labels, label, part);
        drawn.append(node("path", { class: "dx-median", d: linePath(xs, median, x, y) }));
        if (Number.isFinite(last(median))) {
          const py = clamp(y(last(median)), frame.top, frame.bottom), px = frame.right, high = py < frame.top + 22;
          const endLabel = format(last(median), Math.abs(last(median)) < 1e-3 ? 2 : 3);
          labels.append(node("circle", { class: "dx-dot", cx: px, cy: py, r: 3.2 }), frame.narrow
            ? text(px + 4, high ? py + 18 : py - 9, "dx-end", endLabel, { "text-anchor": "end" })
            : text(px + 8, py + 4, "dx-end", endLabel));
        }
        layer.replaceChildren(drawn, labels);
        frame.median = median;
        frame.pointed.replaceChildren();
        return summary(panel, seeds, theory);
      });
    }

    /** A kept run's letter on its curve, each at a place of its own. */
    function letterAt(frame, labels, letter, ys) {
      const seen = xs.map((_, i) => i).filter((i) => inside(frame, ys[i]));
      const i = seen[Math.floor((0.25 + 0.17 * "ABCD".indexOf(letter)) * seen.length)];
      if (i !== undefined) labels.append(text(x(xs[i]), frame.y(ys[i]) + 4, "dx-note dx-letter", letter, { "text-anchor": "middle" }));
    }

    const inside = (frame, value) => frame.y(value) >= frame.top && frame.y(value) <= frame.bottom;

    function drawTheory(frame, drawn, labels, label, part) {
      const { y, top, bottom, left, right } = frame;
      if (part.dims.length) {
        const values = part.values.subarray(skip);
        drawn.append(node("path", { class: "dx-theory", d: linePath(xs, values, x, y) }));
        const seen = xs.map((_, i) => i).filter((i) => y(values[i]) >= top && y(values[i]) <= bottom), at = seen[Math.floor((frame.narrow ? 0.3 : 0.62) * seen.length)];
        if (at !== undefined) labels.append(text(x(xs[at]) + 8, Math.max(y(values[at]) - 7, top + 12), "dx-note", label));
        return;
      }
      const value = part.values[0], py = y(value);
      if (!Number.isFinite(value)) return;
      const words = `${label} = ${format(value)}`;
      if (py >= top && py <= bottom) {
        drawn.append(node("line", { class: "dx-threshold", x1: left, x2: right, y1: py, y2: py }));
        const across = frame.narrow ? { x: left + 4 } : { x: right - 4, "text-anchor": "end" }; // on a phone the right end is the curve's
        labels.append(text(0, py < top + 18 ? py + 15 : py - 6, "dx-note", words, across));
      } else {
        const above = py < top;
        labels.append(text(right - 4, above ? top + 13 : bottom - 7, "dx-note", `${words} ${above ? "↑" : "↓"}`, { "text-anchor": "end" }));
      }
    }

    function summary(panel, seeds, theory) {
      const finals = finite(seeds.map((row) => last(row)));
      const constants = theory.filter((t) => !t.part.dims.length).map((t) => `, ${t.label} = ${format(t.part.values[0])}`).join("");
      const final = axis.name === "step" ? "final " : "", where = final ? "" : ` at ${named(axis)} = ${format(last(xs))}`;
      if (!finals.length) return `no ${final}${panel.label}${where}${constants}`;
      return `${final}${panel.label} ${format(middle(finals))}${where}${spread(finals)}${constants}`;
    }

    /** Under the pointer: a hairline through all panels and the median's value at that step. */
    svg.addEventListener("pointermove", (event) => {
      const at = x.invert(event.clientX - svg.getBoundingClientRect().left);
      const i = xs.reduce((best, v, k) => (Math.abs(v - at) < Math.abs(xs[best] - at) ? k : best), 0);
      frames.forEach(({ median, pointed, y, top, bottom, left, right }, k) => {
        const px = x(xs[i]), py = y(median[i]), side = px > (left + right) / 2 ? -1 : 1, anchor = { "text-anchor": side > 0 ? "start" : "end" };
        pointed.replaceChildren(node("line", { class: "dx-hair", x1: px, x2: px, y1: top, y2: bottom }));
        if (k === frames.length - 1) pointed.append(text(px + 6 * side, bottom - 7, "dx-note", `${named(axis)} = ${format(xs[i])}`, anchor));
        if (!(py >= top && py <= bottom)) return;
        pointed.append(node("circle", { class: "dx-dot", cx: px, cy: py, r: 3.2 }), text(px + 8 * side, Math.max(py - 8, top + 12), "dx-end", format(median[i]), anchor));
      });
    });
    svg.addEventListener("pointerleave", () => frames.forEach((frame) => frame.pointed.replaceChildren()));

    return { element: svg, layout, draw };
  }

  /** What diverged: `spans` of the x axis, in its values, the `share` of seeds, and words for it.
   * Along steps a span begins at the first divergence; along another dimension each value where
   * most seeds have diverged by step `now` is one, reaching halfway to its neighbours. */
  function divergence(at, axis, now = Infinity) {
    const part = slice(at.pack, "diverged_at", at.index), xs = axis.values, none = { spans: [], share: 0, words: "" };
    if (!part) return none;
    if (axis.name !== "step" && part.dims.length === 2) {
      const half = (a, b) => (axis.log && a > 0 ? Math.sqrt(a * b) : (a + b) / 2), seeds = rows(part);
      const dead = xs.map((_, i) => i).filter((i) => 2 * seeds.filter((row) => row[i] <= now).length > seeds.length);
      const spans = dead.map((i) => [half(xs[Math.max(i - 1, 0)], xs[i]), half(xs[i], xs[Math.min(i + 1, xs.length - 1)])]);
      return { spans, share: 1, words: dead.length ? `diverged at ${named(axis)} = ${dead.map((i) => format(xs[i])).join(", ")}` : "" };
    }
    const steps = finite(part.values).filter((step) => step <= now), of = part.values.length;
    if (!steps.length) return none;
    const when = `diverged at step ${format(steps[0])}${last(steps) > steps[0] ? ` to ${format(last(steps))}` : ""}`;
    const spans = [axis.name === "step" ? [Math.max(steps[0], axis.log ? xs.find((v) => v > 0) : xs[0]), last(xs)] : [xs[0], last(xs)]];
    return { spans, share: steps.length / of, words: steps.length === of ? when : `${steps.length} of ${of} seeds ${when}` };
  }

  /** Two swept dimensions as axes, a variable as colour: the median over seeds in each cell. */
  function heatmapView(spec, pack, id, report) {
    const [down, across] = spec.axes, panel = spec.panels[0], rowsN = down.values.length, columns = across.values.length;
    const level = makeScale(panel.domain, [0, 1], panel.log);
    const svg = node("svg", { "aria-hidden": "true" });
    const element = node("div", {
      class: "dx-map", tabindex: 0, role: "application", "aria-roledescription": "heat map",
      "aria-label": `${spec.alt} Arrow keys move from cell to cell.`, "data-lm-suppress-shortcuts": "true", style: `--c:var(--x-${panel.role})`,
    }, svg);
    let frame, cells, marker, layer, values, cell = null;

    const ramp = (t) => (t < 0.7
      ? `color-mix(in oklab, var(--c) ${(6 + 134 * t).toFixed(1)}%, var(--x-paper))`
      : `color-mix(in oklab, var(--x-ink) ${(190 * (t - 0.7)).toFixed(1)}%, var(--c))`);

    function layout(width) {
      const narrow = width < 520, left = narrow ? 50 : 60, right = 6, top = narrow ? 72 : 50;
      const inner = width - left - right, height = clamp(Math.round(inner * 0.62), 200, 380), total = top + height + PANEL.bottom;
      svg.setAttribute("width", width);
      svg.setAttribute("height", total);
      svg.setAttribute("viewBox", `0 0 ${width} ${total}`);
      svg.replaceChildren(node("defs", {}, hatch(`${id}-hatch`)), heading(panel, 0, 15));
      frame = { left, top, width: inner, height, w: inner / columns, h: height / rowsN };
      const bar = { x: narrow ? left : width - 246, y: narrow ? 26 : 4, width: 150 };
      for (let i = 0; i < 50; i++) svg.append(node("rect", { x: bar.x + 45 + i * 3, y: bar.y, width: 3.3, height: 13, style: `fill:${ramp((i + 0.5) / 50)}` }));
      svg.append(text(bar.x + 39, bar.y + 11, "dx-tick-label", format(panel.domain[0], 2), { "text-anchor": "end" }),
        text(bar.x + 201, bar.y + 11, "dx-tick-label", format(panel.domain[1], 2)));
      cells = Array.from({ length: rowsN * columns }, (_, k) => node("rect", {
        class: "dx-cell", x: left + (k % columns) * frame.w, y: top + (rowsN - 1 - Math.floor(k / columns)) * frame.h,
        width: frame.w + 0.4, height: frame.h + 0.4,
      }));
      layer = node("g", {});
      marker = node("rect", { class: "dx-marker", width: frame.w, height: frame.h, visibility: "hidden" });
      svg.append(node("g", {}, ...cells), layer, marker);
      const everyX = Math.ceil((columns * 46) / inner), everyY = Math.ceil((rowsN * 18) / height);
      across.values.forEach((v, i) => i % everyX || svg.append(text(left + (i + 0.5) * frame.w, top + height + 17, "dx-tick-label", told(across, v), { "text-anchor": "middle" })));
      down.values.forEach((v, i) => i % everyY || svg.append(text(left - 8, top + height - (i + 0.5) * frame.h + 4, "dx-tick-label", told(down, v), { "text-anchor": "end" })));
      svg.append(text(left + inner, total - 5, "dx-axis-title", axisTitle(across), { "text-anchor": "end" }),
        text(left, top - 8, "dx-axis-title", `↑ ${axisTitle(down)}`));
    }

    function draw(at, faded, theoryAt, setting) {
      const seeds = rows(slice(at.pack, panel.name, at.index));
      const died = slice(at.pack, "diverged_at", at.index);
      const deaths = died && died.dims.length === 3 ? rows(died) : null;
      const now = setting.step === undefined ? Infinity : setting.step;
      layer.replaceChildren();
      values = cells.map((rect, k) => {
        const own = finite(seeds.map((row) => row[k])), value = middle(own);
        const dead = deaths ? deaths.filter((row) => row[k] <= now).length : 0;
        rect.style.fill = Number.isFinite(value) ? ramp(clamp(level(value), 0, 1)) : "var(--x-panel)";
        if (2 * dead > seeds.length) layer.append(node("rect", { class: "dx-diverged", x: rect.getAttribute("x"), y: rect.getAttribute("y"), width: frame.w, height: frame.h, fill: `url(#${id}-hatch)` }));
        return { own, value, dead };
      });
      spec.panels[0].theory.forEach((label, i) => theoryAt && drawTheory(label, slice(theoryAt.pack, `theory:${down.name}:${i}`, theoryAt.index)));
      return [readout()];
    }

    /** The line's height over x, placed between the rows' values as the axis is: by ratio if log. */
    function drawTheory(label, part) {
      const place = (v) => {
        const f = down.log ? Math.log : Number, ys = down.values.map(f), n = ys.length - 1;
        const i = clamp(ys.findIndex((t) => t > f(v)) - 1, 0, n - 1), j = f(v) >= ys[n] ? n - 1 : i;
        return j + (f(v) - ys[j]) / (ys[j + 1] - ys[j]);
      };
      const xs = across.values.map((_, i) => i), ys = xs.map((i) => place(part.values[part.dims.length ? i : 0]));
      const x = (i) => frame.left + (i + 0.5) * frame.w, y = (p) => frame.top + frame.height - (p + 0.5) * frame.h;
      const clip = `${id}-clip`;
      layer.append(node("clipPath", { id: clip }, node("rect", { x: frame.left, y: frame.top, width: frame.width, height: frame.height })));
      const d = linePath(xs, ys, x, y);
      layer.append(node("path", { class: "dx-halo", d, "clip-path": `url(#${clip})` }), node("path", { class: "dx-theory", d, "clip-path": `url(#${clip})` }));
      const inside = xs.filter((i) => ys[i] > -0.4 && ys[i] < down.values.length - 0.6), at = inside[inside.length >> 1];
      if (at === undefined) return;
      const words = text(x(at), clamp(y(ys[at]) - 14, frame.top + 16, frame.top + frame.height), "dx-on-map", label, { "text-anchor": "middle" });
      layer.append(words);
      const box = words.getBBox();
      words.before(node("rect", { class: "dx-plate", x: box.x - 5, y: box.y - 2, width: box.width + 10, height: box.height + 4, rx: 3 }));
    }

    function readout() {
      if (!cell) return "point at a cell, or focus the map and use the arrow keys, to read it";
      const { own, value, dead } = values[cell.row * columns + cell.column];
      const where = `${named(across)} = ${told(across, across.values[cell.column])}, ${named(down)} = ${told(down, down.values[cell.row])}`;
      const lost = dead ? `; ${dead} of ${spec.seeds} seeds diverged` : "";
      return `${where}: ${Number.isFinite(value) ? `${panel.label} ${format(value)}${spread(own)}` : `no ${panel.label}`}${lost}`;
    }

    function pick(next) {
      cell = next;
      marker.setAttribute("visibility", cell ? "visible" : "hidden");
      if (cell) {
        marker.setAttribute("x", frame.left + cell.column * frame.w);
        marker.setAttribute("y", frame.top + (rowsN - 1 - cell.row) * frame.h);
      }
      report([readout()]);
    }
    const under = (event) => {
      const box = svg.getBoundingClientRect();
      const column = Math.floor((event.clientX - box.left - frame.left) / frame.w), row = rowsN - 1 - Math.floor((event.clientY - box.top - frame.top) / frame.h);
      if (column >= 0 && column < columns && row >= 0 && row < rowsN && !(cell && cell.row === row && cell.column === column)) pick({ row, column });
    };
    element.addEventListener("pointermove", under);
    element.addEventListener("pointerdown", under);
    element.addEventListener("focus", () => cell || pick({ row: rowsN >> 1, column: columns >> 1 }));
    element.addEventListener("keydown", (event) => {
      const move = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [1, 0], ArrowDown: [-1, 0] }[event.key];
      if (!move || !cell) return;
      event.preventDefault();
      pick({ row: clamp(cell.row + move[0], 0, rowsN - 1), column: clamp(cell.column + move[1], 0, columns - 1) });
    });
    return { element, layout(width) { layout(width); if (cell) pick(cell); }, draw };
  }

  // ---- the figure -------------------------------------------------------------------------

  /** Builds the figure inside `figure`. `host.unpack()` gives the package, if there is one, and
   * `host.withoutPackage({notice, at})` starts again without it, at the setting `at`; a kernel gives live, select, train, slots. */
  function mount(figure, spec, grid, host = {}) {
    const id = `dx${++mounted}`, unfollow = DescentTone.follow(figure);
    const pack = { arrays: spec.arrays, grid };
    const trained = []; // runs the reader asked for: {setting, pack}
    const position = Object.fromEntries(spec.dims.map((dim) => [dim.name, host.at ? positionOf(dim, host.at[dim.name]) : dim.start]));
    const lacking = spec.page && host.unpack ? DescentTraining.missing() : "";
    const page = spec.page && host.unpack && !lacking ? spec.page : null;
    const notice = host.notice || (lacking ? `This page cannot train here (the browser has no ${lacking}).` : "");
    const trainer = page && DescentTraining.makeTrainer(host.unpack, () => redraw(), trainingFailed);
    let theoryHere = null, status = { state: "idle" }, clock = null, width = 0, drawn = null, seed = page && page.seeds[0];
    let kept = []; // runs to compare with: {letter, at, cls, setting, seeds, words}

    const output = node("output", { class: "dx-readout", "aria-live": "polite" });
    const message = node("span", { class: "dx-status", role: "status" });
    const mark = node("span", { class: "dx-mark", role: "status" });
    const button = host.live && !page ? node("button", { type: "button", class: "dx-train" }, "Train here") : null;
    const report = (parts) => { output.textContent = [place(), ...parts].filter(Boolean).join("; ") + "."; };
    const view = (spec.kind === "heatmap" ? heatmapView : curvesView)(spec, pack, id, report);
    const widgets = Object.fromEntries(spec.dims.map((dim, i) => {
      const changed = (p) => { position[dim.name] = p; if (trainer) { message.textContent = ""; trainer.start(); } redraw(); if (host.select) host.select(setting()); };
      const free = Boolean(page && dim.range);
      return [dim.name, dim.kind === "choice" ? makeChoice(dim, `${id}-${i}`, changed)
        : makeSlider(dim, `${id}-${i}`, free || (host.live && dim.fine), ends(dim, free), changed)];
    }));

    const setting = () => Object.fromEntries(spec.dims.map((dim) => [dim.name, valueAt(dim, position[dim.name])]));
    const words = (values) => spec.dims.filter((dim) => dim.name in values).map((dim) => `${named(dim)} = ${told(dim, values[dim.name])}`).join(", ");
    const place = () => words(setting());
    const same = (a, b) => Object.keys(a).every((name) => a[name] === b[name]);
    const seeds = () => (seed === page.seeds[0] ? page.seeds : page.seeds.map((_, i) => seed + i));
    const asked = () => ({ ...page.fixed, ...setting(), seeds: seeds() });

    /** A run of the trainer as a pack, at the steps that are drawn. */
    function packed(run) {
      if (run.whole) return run.whole;
      const steps = trainer.steps, drawnSteps = spec.axes[0].values, columns = page.columns || (page.columns = drawnSteps.map((v) => steps.indexOf(v)));
      const arrays = [], values = [], k = page.seeds.length;
      const put = (name, dims, shape, list) => { arrays.push({ name, dims, shape, offset: values.length }); for (const v of list) values.push(v); };
      for (const { name } of spec.panels) {
        put(name, ["seed", "step"], [k, columns.length], page.seeds.flatMap((_, i) => columns.map((c) => run.curves[name][i * steps.length + c])));
      }
      if (run.diverged_at) put("diverged_at", ["seed"], [k], run.diverged_at);
      const packed = { arrays, grid: Float32Array.from(values) };
      if (run.done) run.whole = packed;
      return packed;
    }

    function trainingFailed(text, fatal) {
      if (fatal) {
        queueMicrotask(() => { // what asked for the training draws first
          const { dim } = (figure.getRootNode().activeElement || {}).dataset || {};
          destroy();
          host.withoutPackage({ notice: `This page cannot train here (${text}).`, at: nearest() });
          const again = [...figure.querySelectorAll("[data-dim]")].find((input) => input.dataset.dim === dim && (input.type !== "radio" || input.checked));
          if (again) again.focus({ preventScroll: true });
        });
        return;
      }
      message.className = "dx-status dx-error";
      message.textContent = text;
      mark.replaceChildren();
      report(["not trained"]);
    }

    /** The setting of the grid that is nearest to the sliders. */
    const nearest = () => Object.fromEntries(spec.dims.map((dim) => [dim.name, dim.values[clamp(Math.round(position[dim.name]), 0, dim.values.length - 1)]]));

    /** The run to draw: the one at the setting, else the nearest one that was trained. */
    function resolve() {
      const now = setting(), index = {};
      for (const dim of spec.dims) index[dim.name] = clamp(Math.round(position[dim.name]), 0, dim.values.length - 1);
      const onGrid = spec.dims.every((dim) => dim.values.includes(now[dim.name]));
      if (onGrid) for (const dim of spec.dims) index[dim.name] = dim.values.indexOf(now[dim.name]);
      if (trainer && !(onGrid && seed === page.seeds[0])) {
        trainer.ask(asked());
        const run = trainer.find(asked());
        if (run) return { at: { pack: packed(run), index: {} }, exact: run.done, run };
        if (drawn) return { at: drawn, exact: false };
        return { at: { pack, index }, exact: false };
      }
      if (trainer) trainer.cancel();
      const own = trained.find((run) => same(run.setting, now));
      if (onGrid || own) return { at: { pack: own && !onGrid ? own.pack : pack, index }, exact: true };
      const away = (values) => spec.dims.reduce((sum, dim) => sum + (dim.name in values ? (dim.kind === "choice" ? (values[dim.name] === now[dim.name] ? 0 : 1e3)
        : (positionOf(dim, values[dim.name]) - position[dim.name]) ** 2) : 0), 0);
      const closest = trained.reduce((best, run) => (away(run.setting) < away(best.setting) ? run : best), { setting: nearest(), pack });
      return { at: { pack: closest.pack, index }, exact: false, nearest: closest.setting };
    }

    function redraw() {
      const now = setting(), { at, exact, nearest, run } = resolve();
      const exactTheory = theoryHere && same(theoryHere.setting, now) ? { pack: theoryHere.pack, index: {} } : trainer ? tabulated(now) : null;
      for (const dim of spec.dims) widgets[dim.name].show(position[dim.name]);
      const under = run && !exact && drawn ? [{ at: drawn, cls: "dx-under" }] : [];
      const parts = view.draw(at, !exact && !run, exact && !run ? at : exactTheory, now, [...kept, ...under]);
      if (exact) drawn = at;
      if (page) {
        mark.replaceChildren(...marked(run, exact));
        tools.show(exact);
      }
      if (exact) {
        report([...parts, spec.kind === "curves" ? divergence(at, spec.axes[0], now.step).words : ""]);
      } else if (trainer) {
        report(["training"]);
      } else {
        report([`not trained yet, faded: the nearest run, ${words(nearest)}`]);
      }
      figure.dataset.state = exact ? "exact" : "nearest";
      if (button) button.disabled = exact || status.state === "training";
    }

    /** The theory lines between the values of the grid, of which the package has tables. */
    function tabulated(now) {
      const arrays = [], values = [];
      for (const [name, table] of Object.entries(page.tables)) {
        const line = interpolate(pack, name, table, spec.dims, now);
        arrays.push({ name: name.replace("table", "theory"), dims: line.dims, shape: line.shape, offset: values.length });
        values.push(...line.values);
      }
      return { pack: { arrays, grid: Float32Array.from(values) }, index: {} };
    }

    /** Where the drawn curves come from, in words. */
    function marked(run, exact) {
      if (!exact) return ["training here …"];
      if (!run) return ["trained when this page was made"];
      const whose = run.sensitive === undefined ? "" : run.sensitive === false ? "the notebook’s run" : "this run";
      const why = run.sensitive === null ? "This run: its setting has nothing that could be changed by a little to see what rounding does."
        : run.sensitive ? "This run: a change of the setting by one part in a million changes the loss by more than 0.002 %, and rounding is such a change; the notebook would draw another curve."
        : "The notebook’s run: a change of the setting by one part in a million changes the loss by less than 0.002 %, and rounding by no more than 0.01 %; the notebook draws this curve, too.";
      return [`trained here, ${format(run.step)} steps in ${format(Math.max(Math.round(run.ms), 1))} ms${whose && ": "}`, whose && node("span", { class: "dx-whose", title: why }, whose)].filter(Boolean);
    }

    /** Seed, comparison, link and files: what a figure that trains has below its sliders. */
    function makeTools() {
      const few = page.seeds.length, action = (label, title, act) => {
        const it = node("button", { type: "button", class: "dx-tool", title }, label);
        it.addEventListener("click", act);
        return it;
      };
      const field = node("input", { type: "number", id: `${id}-seed`, min: 0, max: page.last_seed, step: 1, value: seed, "data-lm-suppress-shortcuts": "true" });
      field.addEventListener("change", () => { setSeed(Number(field.value)); redraw(); });
      const shown = () => ({ at: drawn, setting: setting(), seeds: seeds(), words: place() + (seed === page.seeds[0] ? "" : `, ${few > 1 ? "seeds from" : "seed"} ${seed}`) });
      const list = node("ul", { class: "dx-kept-list" });
      const keep = action("Keep to compare", "Keep this run in the figure while the sliders move", () => {
        const letter = [..."ABCD"].find((l) => !kept.some((run) => run.letter === l));
        kept = [...kept, { ...shown(), letter, cls: "dx-kept" }];
        listKept();
      });
      const link = host.number && action("Copy link", "Copy a link to this setting", () => {
        const hash = DescentTraining.writeHash(host.number, { ...setting(), seed });
        history.replaceState(history.state, "", hash);
        const say = (words) => { message.className = "dx-status"; message.textContent = words; };
        const text = location.href;
        (navigator.clipboard ? navigator.clipboard.writeText(text) : Promise.reject())
          .then(() => say("The link is copied, and in the address bar."), () => say("The link is in the address bar."));
      });
      const files = [
        action("CSV", "Download these curves as a table (CSV)", () => DescentTraining.download("curves.csv", "text/csv", table([...kept, shown()]))),
        action("SVG", "Download this figure as a drawing (SVG)", () => {
          const lines = [...kept.map((run) => `${run.letter}: ${run.words}`), shown().words, mark.textContent]; // short lines: a phone's drawing is narrow
          const paper = getComputedStyle(figure).getPropertyValue("--x-paper");
          DescentTraining.download("figure.svg", "image/svg+xml", DescentTraining.standalone(view.element, spec.alt, lines, paper));
        }),
      ];
      function listKept() {
        list.replaceChildren(...kept.map((run) => {
          const drop = action("×", "", () => { kept = kept.filter((other) => other !== run); listKept(); keep.focus(); });
          drop.setAttribute("aria-label", `Remove run ${run.letter}`);
          return node("li", {}, node("b", {}, run.letter), ` ${run.words} `, drop);
        }));
        redraw();
      }
      const table = (runs) => DescentTraining.csv([...spec.dims.map((dim) => dim.name), "seed", "step", ...spec.panels.map((panel) => panel.name)],
        runs.flatMap((run) => {
          const curves = spec.panels.map((panel) => rows(slice(run.at.pack, panel.name, run.at.index)));
          return run.seeds.flatMap((s, k) => spec.axes[0].values.map((t, i) => [...spec.dims.map((dim) => run.setting[dim.name]), s, t, ...curves.map((c) => c[k][i])]));
        }));
      return {
        field,
        element: node("div", { class: "dx-tools" },
          node("span", { class: "dx-seed-field" }, node("label", { for: field.id }, few > 1 ? `first of ${few} seeds` : "seed"), field), keep, link, ...files),
        list,
        show(exact) {
          for (const it of [keep, ...files]) it.disabled = !exact;
          keep.disabled ||= kept.length === 4;
        },
      };
    }

    function setSeed(value) {
      if (Number.isInteger(value)) seed = clamp(value, 0, page.last_seed);
      tools.field.value = seed;
    }

    /** Goes to the setting of the page's address, if that is for this figure. */
    function follow() {
      const seedDim = { name: "seed", values: [0, page.last_seed], integer: true };
      const asked = DescentTraining.readHash(location.hash, host.number, [...spec.dims, seedDim]);
      if (!asked) return;
      for (const dim of spec.dims) if (dim.name in asked) position[dim.name] = positionOf(dim, asked[dim.name]);
      if ("seed" in asked) setSeed(asked.seed);
      figure.scrollIntoView({ block: "nearest" });
      redraw();
    }

    function showStatus(next) {
      status = next && next.state ? next : { state: "idle" };
      clearInterval(clock);
      const began = Date.now();
      const say = () => { message.textContent = `training ${words(status.setting)} … ${Math.round((Date.now() - began) / 1000)} s`; };
      message.className = `dx-status dx-${status.state}`;
      message.textContent = status.state === "error" ? status.message : notice;
      if (status.state === "training") { say(); clock = setInterval(say, 1000); }
      if (button) button.textContent = status.state === "training" ? "Training…" : "Train here";
      redraw();
    }

    const tools = page && makeTools();
    const area = node("div", { class: "dx-plot" }, view.element);
    const caption = figure.querySelector("figcaption") || node("figcaption", {}, spec.caption);
    const controls = node("div", { class: "dx-controls" }, ...spec.dims.map((dim) => {
      const slot = node("div", { class: dim.kind === "choice" ? "dx-slot dx-wide" : "dx-slot" }, widgets[dim.name].element);
      if (host.slots && host.slots[dim.name]) host.slots[dim.name](slot);
      return slot;
    }));
    figure.classList.add("dx-ready");
    figure.replaceChildren(...[area, spec.dims.length ? controls : null,
      node("div", { class: "dx-foot" }, node("div", { class: "dx-says" }, output, page ? mark : null, spec.note ? node("span", { class: "dx-thinned" }, spec.note) : null, message), button),
      page ? tools.list : null, page ? tools.element : null, caption].filter(Boolean));
    if (button) button.addEventListener("click", () => host.train(setting()));

    function resize() {
      const next = Math.round(area.clientWidth) || 640;
      if (next === width) return;
      width = next;
      view.layout(width);
      redraw();
    }
    const observer = new ResizeObserver(resize);
    observer.observe(area);
    resize();
    if (page && host.number) {
      window.addEventListener("hashchange", follow);
      follow();
    }
    const idle = window.requestIdleCallback || ((f) => setTimeout(f, 200));
    const near = page && new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      near.disconnect();
      idle(trainer.start);
    }, { rootMargin: "200px" });
    if (near) near.observe(figure);
    message.textContent = notice;

    function destroy() {
      observer.disconnect();
      unfollow();
      clearInterval(clock);
      if (!page) return;
      near.disconnect();
      window.removeEventListener("hashchange", follow);
      trainer.stop();
    }

    return {
      setting,
      /** Moves the sliders to `values`; dimensions that are there already stay untouched. */
      select(values) {
        const now = setting();
        for (const dim of spec.dims) if (dim.name in values && values[dim.name] !== now[dim.name]) position[dim.name] = positionOf(dim, values[dim.name]);
        redraw();
      },
      addRuns(runs) {
        for (const run of runs.slice(trained.length)) {
          trained.push(run);
          for (const dim of spec.dims) {
            if (dim.kind === "number" && dim.name in run.setting && !dim.values.includes(run.setting[dim.name])) widgets[dim.name].addStop(positionOf(dim, run.setting[dim.name]));
          }
        }
        redraw();
      },
      setTheory(theory) { theoryHere = theory; redraw(); },
      showStatus,
      redraw,
      destroy,
    };
  }

  // ---- hosts ------------------------------------------------------------------------------

  function decode(base64) {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  }

  const floats = (view) => new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

  function mountStatic(figure) {
    if (figure.descentExplorer) return figure.descentExplorer;
    const content = figure.dataset.package, number = 1 + [...document.querySelectorAll("figure.descent-explorer")].indexOf(figure);
    const make = (host) => { figure.descentExplorer = mount(figure, JSON.parse(figure.dataset.spec), grid, host); };
    const grid = decode(figure.dataset.grid);
    make(content ? { unpack: () => JSON.parse(content), number, withoutPackage: make } : {});
    for (const name of ["data-grid", "data-package"]) figure.removeAttribute(name); // no need to keep the text
    return figure.descentExplorer;
  }

  /** Mounts the page's figures, now or once it is parsed. */
  function start() {
    const all = () => document.querySelectorAll("figure.descent-explorer[data-grid]").forEach(mountStatic);
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", all);
    else all();
  }

  const widget = {
    render({ model, el }) {
      const figure = node("figure", { class: "descent-explorer" });
      el.append(figure);
      const packed = (state) => ({ setting: state.setting, pack: { arrays: state.arrays, grid: floats(state.grid) } });
      const slots = {};
      for (const [name, reference] of Object.entries(model.get("_slots") || {})) {
        slots[name] = async (slot) => {
          try {
            const child = typeof reference === "string" ? await model.widget_manager.get_model(reference.slice("IPY_MODEL_".length)) : reference;
            const view = await model.widget_manager.create_view(child);
            slot.replaceChildren(view.el);
          } catch (error) {
            console.warn(`descent: the control for ${name} could not be shown; the built-in one stays`, error);
          }
        };
      }
      let chart;
      const host = {
        live: model.get("_live"),
        slots,
        select(values) { model.set("selection", values); model.save_changes(); },
        train(values) { model.send({ type: "train", setting: values }); },
      };
      const make = (more) => { chart = mount(figure, model.get("_spec"), floats(model.get("_grid")), { ...host, ...more }); chart.addRuns(model.get("_runs").map(packed)); };
      const trains = Object.keys(model.get("_package") || {}).length > 0;
      make(trains ? { unpack: () => model.get("_package"), withoutPackage: make } : {});
      const listeners = {
        selection: () => chart.select(model.get("selection")),
        _runs: () => chart.addRuns(model.get("_runs").map(packed)),
        _status: () => chart.showStatus(model.get("_status")),
        _theory: () => { const theory = model.get("_theory"); if (theory && theory.setting) chart.setTheory(packed(theory)); },
      };
      for (const [name, update] of Object.entries(listeners)) { model.on(`change:${name}`, update); update(); }
      return () => {
        for (const [name, update] of Object.entries(listeners)) model.off(`change:${name}`, update);
        chart.destroy();
      };
    },
  };

  const internals = { interpolate, format, told, linearTicks, logTicks, makeScale, tickLabels, linePath, medianCurve, valueAt, positionOf, slice, decode };
  return { mount, mountStatic, start, widget, internals };
})();
