/* The deep-zoom figure of Descent: a map of two learning rates that the reader enters, every point a trained network.
 *
 * `mount` is given a spec and the map that was trained when the page was made. Smaller windows are trained by `host.train`,
 * in the page by workers (`DescentTraining.makePool`), in JupyterLab by the kernel. A training is a whole number, see
 * `descent.zoom.codes`: negative where it did not converge, larger in size for slower divergence and for faster convergence.
 */
var DescentZoom = (() => {
  "use strict";
  const IN = 5; // what a click or a key magnifies by
  const REMEMBERED = 40; // windows
  const UNKNOWN = 0;
  let mounted = 0;

  function node(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value != null && value !== false) element.setAttribute(name, value === true ? "" : value);
    element.append(...children.filter((child) => child != null));
    return element;
  }

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const count = (n) => String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, ",");
  const superscript = (n) => String(n).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"["0123456789-".indexOf(c)]);
  const power = (value, digits = 2) => {
    const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
    return Math.abs(Number(exponent)) < 3 ? String(Number(value.toPrecision(digits))) : (Number(mantissa) === 1 ? "" : `${Number(mantissa)} × `) + "10" + superscript(Number(exponent));
  };

  /** A rate with as many digits as tell the points of a window apart. */
  const rate = (exponent, decades) => String(Number((10 ** exponent).toPrecision(clamp(Math.ceil(3.5 - Math.log10(decades)), 3, 16))));

  /** One run of the page as its code. */
  function encode(run, spec) {
    const loss = run.curves.loss, tail = loss.slice(-spec.tail), mean = (values) => values.reduce((sum, v) => sum + v, 0) / values.length;
    if (!(mean(tail) < loss[0])) return -1 - (Number.isNaN(run.diverged_at[0]) ? spec.steps : run.diverged_at[0]);
    const decades = spec.slowest - Math.log10(mean(loss) / loss[0]);
    return clamp(Math.round(spec.unit * (Number.isFinite(decades) ? decades : 32)), 1, 32767);
  }

  function words(code, spec) {
    if (code === UNKNOWN) return "not trained yet";
    if (code < 0) return -1 - code < spec.steps ? `diverged at step ${-1 - code}` : `bounded, but above its first loss after ${spec.steps} steps`;
    return `converged, mean loss ${power(10 ** (spec.slowest - code / spec.unit))} of the first`;
  }

  /** The share of the codes of a kind that are faster, for each code that occurs. */
  function ranks(codes) {
    const table = new Map();
    for (const sign of [-1, 1]) {
      const own = Array.from(codes).filter((c) => c * sign > 0).sort((a, b) => (sign > 0 ? b - a : b - a)); // fast convergence has large codes, fast divergence those near 0
      own.forEach((code, i) => { if (!table.has(code)) table.set(code, i / Math.max(own.length - 1, 1)); });
    }
    return table;
  }

  /** Trains windows in the page. Its `train(window, got, over)` calls `got(grid)` with what there is, again and again. */
  function pageTrainer(spec, unpack, failed) {
    const pool = DescentTraining.makePool(unpack, (why) => failed(why, true)), n = spec.levels[spec.levels.length - 1];
    return {
      limit: spec.deepest.float32,
      dtype: "float32",
      start: pool.start,
      stop: pool.stop,
      cancel: pool.cancel,
      train(window, got, over) {
        const codes = new Int16Array(n * n), seen = new Uint8Array(n * n), began = performance.now();
        const setting = (i, j, factor = 1) => ({
          lr: factor * 10 ** (window.x + window.w * ((i + 0.5) / n - 0.5)), readout_lr: 10 ** (window.y + window.w * ((j + 0.5) / n - 0.5)), seeds: spec.seeds,
        });
        let trained = 0, drawn = began;
        const level = (k) => {
          const side = n / spec.levels[k], places = [];
          for (let j = 0; j < n; j += side) for (let i = 0; i < n; i += side) if (!seen[j * n + i]) { seen[j * n + i] = 1; places.push([i, j]); }
          pool.train(places.map(([i, j]) => setting(i, j)), (place, run) => {
            const [i, j] = places[place], code = encode(run, spec);
            for (let v = j; v < j + side; v++) codes.fill(code, v * n + i, v * n + i + side);
            trained++;
            const now = performance.now();
            if (now - drawn > 80) { drawn = now; got({ codes, n, trained, ms: now - began }); }
          }, () => {
            const grid = { codes, n, trained, ms: performance.now() - began, done: k === spec.levels.length - 1 };
            got(grid);
            if (!grid.done) return level(k + 1);
            nudge(grid);
          });
        };
        // how much of the picture rounding decides: some of the points again, with a learning rate one unit in the last place larger
        const nudge = (grid) => {
          const places = [], side = n / spec.levels[0];
          for (let j = side >> 1; j < n; j += side) for (let i = side >> 1; i < n; i += side) places.push([i, j]);
          let turned = 0;
          pool.train(places.map(([i, j]) => setting(i, j, 1 + 2 ** -23)), (place, run) => {
            const [i, j] = places[place];
            turned += codes[j * n + i] > 0 !== encode(run, spec) > 0;
          }, () => over({ ...grid, turned: turned / places.length }));
        };
        level(0);
      },
    };
  }

  /** Builds the figure inside `figure`. `host.trainer(failed)` makes what trains; `host.number`: the figure's place in its page;
   * `host.withoutTrainer(notice)` starts again where `failed(why, true)` has said that nothing more can be trained. */
  function mount(figure, spec, first, host = {}) {
    const id = `dz${++mounted}`, axes = [spec.axes.lr, spec.axes.readout_lr];
    const home = { x: Math.log10(spec.home.lr), y: Math.log10(spec.home.readout_lr), w: spec.home.decades };
    const keyOf = ({ x, y, w }) => [x, y, w].map((v) => v.toPrecision(14)).join();
    const windows = new Map([[keyOf(home), { codes: first, n: spec.points, trained: spec.points ** 2, ms: 1000 * spec.seconds, made: true, done: true }]]);
    const past = [];
    let now = home, under = null, drag = null, pointed = null;
    const trainer = host.trainer ? host.trainer(failed) : null;

    const canvas = node("canvas", { class: "dz-map", tabindex: 0, role: "img", "aria-label": spec.alt, "aria-describedby": `${id}-how`, "data-lm-suppress-shortcuts": "true" });
    const pen = canvas.getContext("2d");
    const across = node("span", { class: "dz-across", "aria-hidden": "true" }), up = node("span", { class: "dz-up", "aria-hidden": "true" });
    const readout = node("output", { class: "dz-readout", "aria-live": "off" });
    const mark = node("span", { class: "dz-mark", role: "status" });
    const message = node("span", { class: "dz-message", role: "status" });
    const button = (label, title, act) => {
      const it = node("button", { type: "button", class: "dz-tool", title, "aria-label": title }, label);
      it.addEventListener("click", act);
      return it;
    };

    // ---- drawing ----------------------------------------------------------------------------

    const images = new WeakMap(); // grid -> {canvas, made from how many networks, in which colours}

    function color(role) {
      pen.fillStyle = getComputedStyle(figure).getPropertyValue(`--x-${role}`).trim();
      const hex = pen.fillStyle; // the browser writes it as #rrggbb
      return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    }

    function image(grid) {
      const paper = color("paper"), ramps = { 1: color("loss"), "-1": color("divergence") };
      const key = [grid.trained, paper, ...Object.values(ramps)].join(), known = images.get(grid.codes);
      if (known && known.key === key) return known.canvas;
      const { codes, n } = grid, table = ranks(codes);
      const drawing = node("canvas", { width: n, height: n }), context = drawing.getContext("2d"), pixels = context.createImageData(n, n);
      for (let j = 0; j < n; j++) {
        for (let i = 0; i < n; i++) {
          const code = codes[j * n + i], at = 4 * ((n - 1 - j) * n + i);
          if (code === UNKNOWN) continue; // transparent
          const share = 0.14 + 0.86 * table.get(code) ** 1.5, ramp = ramps[Math.sign(code)];
          for (let c = 0; c < 3; c++) pixels.data[at + c] = Math.round(share * ramp[c] + (1 - share) * paper[c]);
          pixels.data[at + 3] = 255;
        }
      }
      context.putImageData(pixels, 0, 0);
      images.set(grid.codes, { canvas: drawing, key });
      return drawing;
    }

    function draw() {
      const size = canvas.width, grid = windows.get(keyOf(now));
      pen.imageSmoothingEnabled = false;
      pen.clearRect(0, 0, size, size);
      if (under && !(grid && grid.done)) { // what was seen before, where it lies in this window
        const { window: w, grid: old } = under, scale = size / now.w;
        pen.globalAlpha = 0.4;
        pen.drawImage(image(old), size / 2 + (w.x - w.w / 2 - now.x) * scale, size / 2 - (w.y + w.w / 2 - now.y) * scale, w.w * scale, w.w * scale);
        pen.globalAlpha = 1;
      }
      if (grid) pen.drawImage(image(grid), 0, 0, size, size);
      if (drag && drag.side > 0) {
        const unit = size / canvas.clientWidth;
        pen.lineWidth = 2 * unit;
        pen.strokeStyle = getComputedStyle(figure).getPropertyValue("--x-ink");
        pen.strokeRect((drag.x - drag.side / 2) * unit, (drag.y - drag.side / 2) * unit, drag.side * unit, drag.side * unit);
      }
    }

    /** Writes the window into the fields: when it changes, not while somebody types. */
    function fill() {
      fields[0].value = rate(now.x, now.w);
      fields[1].value = rate(now.y, now.w);
      fields[2].value = String(Number(now.w.toPrecision(4)));
    }

    function write() {
      const half = now.w / 2, grid = windows.get(keyOf(now));
      across.replaceChildren(node("span", {}, rate(now.x - half, now.w)), node("span", { class: "dz-title" }, `${axes[0].label} ${axes[0].symbol}`), node("span", {}, rate(now.x + half, now.w)));
      up.replaceChildren(node("span", {}, rate(now.y + half, now.w)), node("span", { class: "dz-title" }, axes[1].symbol), node("span", {}, rate(now.y - half, now.w)));
      say();
      back.disabled = !past.length;
      reset.disabled = keyOf(now) === keyOf(home);
      const large = spec.home.decades / now.w;
      mark.textContent = "";
      if (!grid) mark.textContent = trainer ? "training here …" : "";
      else {
        const networks = `${count(grid.trained)} networks of ${spec.steps} steps`, seconds = `${(grid.ms / 1000).toFixed(grid.ms < 10000 ? 1 : 0)} s`;
        if (grid.made) mark.textContent = `trained when this page was made: ${networks} in ${seconds}, ${count((1000 * grid.trained) / grid.ms)} a second (${spec.dtype})`;
        else if (!grid.done) mark.textContent = `training here: ${networks} in ${seconds} …`;
        else mark.textContent = `trained here: ${networks} in ${seconds}, ${count((1000 * grid.trained) / grid.ms)} a second (${trainer.dtype}); magnified ${power(large)}×`
          + (grid.turned === undefined ? "" : `; one unit in the last place of ${axes[0].symbol} turns ${Math.round(100 * grid.turned)} % of the points`);
      }
      figure.dataset.state = grid && grid.done ? "done" : "training";
      halt.hidden = !trainer || Boolean(grid && grid.done) || stopped;
    }

    function say() {
      const grid = windows.get(keyOf(now)), [u, v] = pointed || [0.5, 0.5];
      const code = grid ? grid.codes[Math.min(Math.floor(v * grid.n), grid.n - 1) * grid.n + Math.min(Math.floor(u * grid.n), grid.n - 1)] : UNKNOWN;
      readout.textContent = `${pointed ? "" : "centre: "}${axes[0].symbol} = ${rate(now.x + (u - 0.5) * now.w, now.w)}, ${axes[1].symbol} = ${rate(now.y + (v - 0.5) * now.w, now.w)}: ${words(code, spec)}`;
    }

    // ---- moving -----------------------------------------------------------------------------

    let stopped = false, serial = 0;

    /** Goes to a window, if there is arithmetic for it; trains it if nobody has. */
    function go(next, remember = true) {
      message.textContent = "";
      if (!trainer && !windows.has(keyOf(next))) {
        message.textContent = host.notice || "This map trains only with JavaScript workers or a kernel.";
        return;
      }
      let { x, y, w } = next;
      if (!windows.has(keyOf(next))) {
        if (w < trainer.limit) {
          message.textContent = `No deeper than ${power(trainer.limit)} decades: there ${trainer.dtype} has hardly more than eight numbers between neighbouring points, and rounding would draw the picture.`
            + (trainer.dtype === "float32" ? " In a notebook, float64 goes on." : "");
          if (now.w <= trainer.limit * (1 + 1e-9)) return;
          w = trainer.limit;
        }
        if (spec.reach && trainer.dtype === "float32") {
          const span = Object.values(spec.reach).map((ends) => [Math.log10(ends[0]) + 1e-6, Math.log10(ends[1]) - 1e-6]);
          w = Math.min(w, ...span.map(([a, b]) => b - a));
          [x, y] = [x, y].map((v, k) => clamp(v, span[k][0] + w / 2, span[k][1] - w / 2));
        }
      }
      const shown = windows.get(keyOf(now));
      if (shown) under = { window: now, grid: { ...shown, codes: shown.codes.slice() } };
      if (trainer) trainer.cancel();
      if (remember) past.push(now);
      now = { x, y, w };
      pointed = null;
      stopped = false;
      if (!(windows.get(keyOf(now)) || {}).done) ask();
      fill();
      draw();
      write();
    }

    function ask() {
      const key = keyOf(now), own = ++serial;
      const got = (grid) => {
        if (own !== serial) return;
        windows.set(key, grid);
        for (const old of windows.keys()) if (windows.size > REMEMBERED && old !== key && !windows.get(old).made) windows.delete(old);
        draw();
        write();
      };
      trainer.train(now, got, got);
    }

    function failed(text, fatal = false) {
      serial++;
      if (fatal) {
        queueMicrotask(() => { // what asked for the training draws first
          const focused = figure.contains(figure.getRootNode().activeElement);
          destroy();
          host.withoutTrainer(`This page cannot train here (${text}).`);
          if (focused) figure.querySelector(".dz-map").focus({ preventScroll: true });
        });
        return;
      }
      message.textContent = `This window could not be trained (${text}).`;
      figure.dataset.state = "failed";
      halt.hidden = true;
    }

    const scaled = (factor) => go({ ...now, w: now.w / factor });
    const moved = (dx, dy) => go({ ...now, x: now.x + dx * now.w, y: now.y + dy * now.w });

    const box = () => canvas.getBoundingClientRect();
    const local = (event) => [event.clientX - box().left, event.clientY - box().top];
    const plane = (px, py) => ({ x: now.x + (px / box().width - 0.5) * now.w, y: now.y - (py / box().height - 0.5) * now.w });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      const [x, y] = local(event);
      drag = { x, y, side: 0, touch: event.pointerType === "touch" };
      if (!drag.touch) canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = local(event);
      if (drag && !drag.touch) {
        drag.side = 2 * Math.max(Math.abs(x - drag.x), Math.abs(y - drag.y));
        draw();
      }
      pointed = [clamp(x / box().width, 0, 1), clamp(1 - y / box().height, 0, 1)];
      say();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!drag) return;
      const { side } = drag, centre = plane(drag.x, drag.y), size = box().width;
      drag = null;
      go({ ...centre, w: side > 8 ? (now.w * side) / size : now.w / IN });
    });
    canvas.addEventListener("pointercancel", () => { drag = null; draw(); });
    canvas.addEventListener("pointerleave", () => { pointed = null; say(); });
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const act = {
        ArrowLeft: () => moved(-0.25, 0), ArrowRight: () => moved(0.25, 0), ArrowUp: () => moved(0, 0.25), ArrowDown: () => moved(0, -0.25),
        "+": () => scaled(IN), "=": () => scaled(IN), Enter: () => scaled(IN), "-": () => scaled(1 / IN),
        Backspace: goBack, Home: () => go(home), 0: () => go(home), Escape: stop,
      }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });

    function goBack() {
      if (past.length) go(past.pop(), false);
    }

    function stop() {
      if (!trainer || figure.dataset.state !== "training") return;
      trainer.cancel();
      serial++;
      stopped = true;
      write();
      mark.textContent += " stopped";
    }

    // ---- controls ---------------------------------------------------------------------------

    const field = (label, title) => {
      const input = node("input", { type: "text", inputmode: "decimal", id: `${id}-${label}`, "aria-label": title, autocomplete: "off", "data-lm-suppress-shortcuts": "true" });
      input.addEventListener("change", () => {
        const [lr, readout, w] = fields.map((f) => Number(f.value));
        if (![lr, readout, w].every((v) => Number.isFinite(v) && v > 0)) {
          fill();
          message.textContent = `${title}: a positive number, please.`;
          return;
        }
        go({ x: Math.log10(lr), y: Math.log10(readout), w });
      });
      return input;
    };
    const fields = [field("lr", `centre, ${axes[0].label}`), field("readout", `centre, ${axes[1].label}`), field("decades", "width of the window in decades")];
    const named = [axes[0].symbol, axes[1].symbol, "decades"].map((text, k) => node("span", { class: "dz-field" }, node("label", { for: fields[k].id }, text), fields[k]));
    const back = button("Back", "Back to the window before", goBack);
    const reset = button("Reset", "Back to the whole map", () => go(home));
    const halt = button("Stop", "Stop training this window", stop);
    halt.hidden = true;
    const link = host.number && button("Copy link", "Copy a link to this window", () => {
      const [lr, readout_lr] = [now.x, now.y].map((v) => Number((10 ** v).toPrecision(15)));
      history.replaceState(history.state, "", `#${new URLSearchParams({ zoom: host.number, lr, readout_lr, decades: Number(now.w.toPrecision(8)) })}`);
      (navigator.clipboard ? navigator.clipboard.writeText(location.href) : Promise.reject())
        .then(() => { message.textContent = "The link is copied, and in the address bar."; }, () => { message.textContent = "The link is in the address bar."; });
    });
    const visit = ({ name, lr, readout_lr, decades }) => button(name, `Go to the window “${name}”`, () => go({ x: Math.log10(lr), y: Math.log10(readout_lr), w: decades }));
    const how = node("p", { class: "dz-how", id: `${id}-how` },
      trainer ? "Click to magnify, or drag a window. With the map in focus: arrow keys move, + and − zoom, Backspace goes back, Home resets, Escape stops." : "This is the map that was trained when the page was made.");
    const tools = trainer && [
      node("div", { class: "dz-tools" }, button("+", "Zoom in", () => scaled(IN)), button("−", "Zoom out", () => scaled(1 / IN)),
        button("←", "Move left", () => moved(-0.25, 0)), button("→", "Move right", () => moved(0.25, 0)), button("↑", "Move up", () => moved(0, 0.25)), button("↓", "Move down", () => moved(0, -0.25)),
        back, reset, ...spec.places.map(visit), link || null, halt),
      node("div", { class: "dz-tools" }, ...named),
    ];

    /** Goes to the window of the page's address, if that is for this figure. */
    function follow() {
      const asked = new URLSearchParams(location.hash.slice(1));
      if (asked.get("zoom") !== String(host.number)) return;
      const values = ["lr", "readout_lr", "decades"].map((name) => Number(asked.get(name) || NaN));
      if (!values.every((v) => Number.isFinite(v) && v > 0)) return;
      figure.scrollIntoView({ block: "nearest" });
      go({ x: Math.log10(values[0]), y: Math.log10(values[1]), w: values[2] });
    }

    figure.classList.add("dz-ready");
    const caption = figure.querySelector("figcaption") || node("figcaption", {}, spec.caption);
    const key = node("div", { class: "dz-key", "aria-hidden": "true" }, node("span", {}, node("i", { class: "dz-in" }), "converged"), node("span", {}, node("i", { class: "dz-out" }), "did not"), "faint: fast, full colour: slow");
    figure.replaceChildren(...[node("div", { class: "dz-frame" }, up, node("div", { class: "dz-plot" }, canvas, across)), key, readout, mark, message, ...(tools || []), how, caption].filter(Boolean));

    function resize() {
      const size = Math.round(canvas.clientWidth * Math.min(window.devicePixelRatio || 1, 2));
      if (!size || canvas.width === size) return;
      canvas.width = canvas.height = size;
      draw();
    }
    const observer = new ResizeObserver(resize), unfollow = DescentTone.follow(figure, draw);
    observer.observe(canvas);
    resize();
    fill();
    write();
    message.textContent = host.notice || "";
    if (trainer && host.number) {
      addEventListener("hashchange", follow);
      follow();
    }
    function destroy() {
      observer.disconnect();
      unfollow();
      removeEventListener("hashchange", follow);
      if (trainer) trainer.stop();
    }

    return { window: () => ({ ...now }), destroy };
  }

  // ---- hosts ------------------------------------------------------------------------------

  function mountStatic(figure) {
    if (figure.descentZoom) return;
    const bytes = Uint8Array.from(atob(figure.dataset.grid), (c) => c.charCodeAt(0)), content = figure.dataset.package;
    const spec = JSON.parse(figure.dataset.spec), number = 1 + [...document.querySelectorAll("figure.descent-zoom")].indexOf(figure);
    const grid = turned(new Int16Array(bytes.buffer)); // it has the first rate first; a picture has it across
    const make = (host) => { figure.descentZoom = mount(figure, spec, grid, host); }, withoutTrainer = (notice) => make({ notice });
    const lacking = content ? DescentTraining.missing() : "";
    if (lacking) withoutTrainer(`This page cannot train here (the browser has no ${lacking}).`);
    else make({ number, withoutTrainer, trainer: content && ((failed) => pageTrainer(spec, () => JSON.parse(content), failed)) });
    for (const name of ["data-grid", "data-package"]) figure.removeAttribute(name);
  }

  function turned(codes) {
    const n = Math.sqrt(codes.length);
    return codes.map((_, k) => codes[(k % n) * n + Math.floor(k / n)]);
  }

  /** Mounts the page's figures, now or once it is parsed. */
  function start() {
    const all = () => document.querySelectorAll("figure.descent-zoom[data-grid]").forEach(mountStatic);
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", all);
    else all();
  }

  const codesOf = (view) => turned(new Int16Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength)));

  /** Trains windows in the kernel, by `sweep` in float64. */
  function kernelTrainer(spec, model, failed) {
    let serial = 0, ask = null, trained = 0;
    const receive = (data, buffers) => {
      if (!ask || data.serial !== serial) return;
      if (data.type === "error") return failed(data.message);
      trained += data.points ** 2;
      const done = data.points === spec.levels[spec.levels.length - 1];
      ask.ms += data.ms;
      (done ? ask.over : ask.got)({ codes: codesOf(buffers[0]), n: data.points, trained, ms: ask.ms, done });
    };
    model.on("msg:custom", receive);
    return {
      limit: spec.deepest.float64,
      dtype: "float64",
      start() {},
      stop() { model.off("msg:custom", receive); },
      cancel() { ask = null; },
      train(window, got, over) {
        ask = { got, over, ms: 0 };
        trained = 0;
        model.send({ type: "train", serial: ++serial, lr: 10 ** window.x, readout_lr: 10 ** window.y, decades: window.w });
      },
    };
  }

  const widget = {
    render({ model, el }) {
      const figure = node("figure", { class: "descent-zoom" }), spec = model.get("_spec");
      el.append(figure);
      const chart = mount(figure, spec, codesOf(model.get("_grid")), { trainer: model.get("_live") && ((failed) => kernelTrainer(spec, model, failed)) });
      return () => chart.destroy();
    },
  };

  return { mount, start, widget, internals: { encode, ranks, words, rate } };
})();
