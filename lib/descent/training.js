/* Training in the page: what a slider figure that carries a package (see descent.browser) does beyond its grid.
 *
 * Nothing here draws. `makeTrainer` keeps a worker that trains one setting at a time and remembers what it has trained;
 * the functions below it write a setting as a link, runs as CSV and a drawing as a file.
 */
var DescentTraining = (() => {
  "use strict";
  // A run is called sensitive if a change of its first continuous hyperparameter by a millionth changes its loss by more
  // than STABLE. Rounding, which differs between page and notebook, is ten times smaller but met at every step: over
  // eighty runs its effect was at most five times that of the change, so that the curves of the others agree to 1e-4.
  const NUDGE = 1e-6, STABLE = 2e-5;
  const REMEMBERED = 100; // runs

  const PATIENCE = 10; // seconds without a word from a worker that owes one

  /** What the browser lacks to train, "" if nothing. */
  const missing = () => ["Worker", "WebAssembly", "DecompressionStream"].filter((name) => !window[name]).join(", ");

  /** A worker with its package. `receive(message)` is called for what it says, `failed(why)` once, where it does not start, dies,
   * cannot be read or says nothing though it `owes()` an answer. A worker that a content policy forbids, or that runs
   * out of memory, may say so by an event without a message, or not at all. */
  function open(content, receive, owes, failed) {
    let worker = null, silent = 0, loaded = false;
    const address = URL.createObjectURL(new Blob([content.worker], { type: "text/javascript" }));
    const clock = setInterval(() => { // ticks are counted, not time: a computer that slept has not waited
      silent = !loaded || owes() ? silent + 1 : 0;
      if (silent > PATIENCE) giveUp(`its worker has not answered for ${PATIENCE} seconds`);
    }, 1000);
    const close = () => {
      clearInterval(clock);
      URL.revokeObjectURL(address);
      if (!worker) return;
      worker.onmessage = worker.onerror = worker.onmessageerror = null;
      worker.terminate();
    };
    const giveUp = (why) => { close(); failed(why); };
    try {
      worker = new Worker(address);
      worker.onmessage = ({ data }) => {
        silent = 0;
        if (data.type === "ready") { loaded = true; URL.revokeObjectURL(address); }
        if (data.type === "error" && !loaded) giveUp(reason(data.message));
        else receive(data);
      };
      worker.onerror = (event) => {
        if (event.preventDefault) event.preventDefault();
        giveUp(reason(event.message) || (loaded ? "its worker ended without a word, as where memory runs out" : "its worker did not start, as where a content policy forbids it"));
      };
      worker.onmessageerror = () => giveUp("its worker’s answers cannot be read");
      worker.postMessage({ type: "load", package: content });
    } catch (error) {
      close();
      throw error;
    }
    return { post: (message) => worker.postMessage(message), close };
  }

  /** An error's message for the reader; "" where there is none. */
  function reason(message) {
    const text = String(message || "");
    return /unsafe-eval|Content Security Policy|blocked by CSP/i.test(text) ? "a content policy forbids WebAssembly" : text;
  }

  const keyOf = (setting) => JSON.stringify(Object.entries(setting).sort());

  /** Whether two curves differ anywhere by more than those of stable training; where only one has a value, they do. */
  const differ = (a, b) => a.some((v, i) => (Number.isNaN(v) ? !Number.isNaN(b[i]) : !(Math.abs(v - b[i]) <= STABLE * Math.max(Math.abs(v), Math.abs(b[i])))));

  /** A setting next to this one, or null if nothing in it can be moved by a little. */
  function nudged(setting, rules) {
    const name = Object.keys(rules).find((n) => !rules[n].choices && !rules[n].integer && setting[n] > 0);
    if (!name) return null;
    const up = setting[name] * (1 + NUDGE);
    return { ...setting, [name]: up <= rules[name].max ? up : setting[name] * (1 - NUDGE) };
  }

  /** Trains what `ask` wants. `unpack` gives the package; `changed` is called when there is something new to draw,
   * `failed(message, fatal)` when a run, or the worker, cannot go on. A run has `key, setting, curves, step, diverged_at`
   * and, once it is `done`, `ms` and soon `sensitive` (null: cannot be found out). */
  function makeTrainer(unpack, changed, failed) {
    const finished = new Map();
    let worker = null, started = false, ready = false, description = null, serial = 0;
    let wanted = null; // {key, setting} of the latest question
    let running = null; // the run in the worker; with `of`, the neighbour of a finished run
    let latest = null; // the run with the newest curves

    function start() {
      if (started) return;
      started = true; // there is no second attempt
      try {
        const content = unpack();
        description = content.description;
        worker = open(content, receive, () => running, giveUp);
      } catch (error) {
        giveUp(reason(error.message) || String(error));
      }
    }

    function stop() {
      if (worker) worker.close();
      started = true;
      worker = null;
      ready = false;
      wanted = running = null;
    }

    function giveUp(why) {
      stop();
      failed(why, true);
    }

    function send(run) {
      running = { id: ++serial, curves: null, step: 0, reported: false, done: false, ...run };
      worker.post({ type: "train", id: running.id, setting: running.setting });
    }

    /** Sends the worker what is wanted, then its neighbour. A run gives way to another setting once it has been seen, or
     * else a slider that never rests would show nothing. */
    function next() {
      if (!ready || !wanted) return;
      const run = finished.get(wanted.key);
      if (!run) {
        if (!running || running.of || (running.key !== wanted.key && running.reported)) send(wanted);
      } else if (running && running.of !== run) {
        worker.post({ type: "cancel" });
      } else if (!running && run.sensitive === undefined) {
        const setting = nudged(run.setting, description.hyperparameters);
        if (setting) send({ of: run, key: null, setting });
        else { run.sensitive = null; changed(); }
      }
    }

    const handlers = {
      ready() { ready = true; next(); },
      progress(data) {
        if (running.of) return;
        Object.assign(running, { curves: data.curves, step: data.step, reported: true });
        latest = running;
        changed();
        next();
      },
      done(data) {
        const run = Object.assign(running, { curves: data.curves, step: data.step, ms: data.ms, diverged_at: data.diverged_at, done: true });
        running = null;
        if (run.of) {
          const names = description.record.includes("loss") ? ["loss"] : description.record;
          run.of.sensitive = names.some((name) => differ(run.of.curves[name], run.curves[name]));
        } else {
          latest = run;
          finished.set(run.key, run);
          if (finished.size > REMEMBERED) finished.delete(finished.keys().next().value);
        }
        changed();
        next();
      },
      cancelled() { running = null; next(); },
      error(data) { running = null; failed(data.message, false); }, // the setting stays wanted: it is not asked for again
    };

    function receive(data) {
      if (data.type === "ready" || (running && data.id === running.id)) handlers[data.type](data);
    }

    return {
      start,
      stop,
      /** The finished run at a setting, or the newest of what is being trained for it; undefined before there is any. */
      find: (setting) => finished.get(keyOf(setting)) || (wanted && wanted.key === keyOf(setting) && latest && !latest.done ? latest : undefined),
      ask(setting) {
        const key = keyOf(setting);
        if (wanted && wanted.key === key) return;
        wanted = { key, setting };
        next();
      },
      cancel() {
        if (!wanted) return;
        wanted = null;
        if (running) worker.post({ type: "cancel" });
      },
      get steps() { return description.record_steps; },
    };
  }

  /** Trains many settings on several workers. `unpack` gives the package; `failed(message)` is called where they cannot go on.
   * `train(settings, got, over)` calls `got(place in settings, run)` as runs come in and `over(ms)` at the end; what was under
   * way before is given up. */
  function makePool(unpack, failed) {
    const SHARE = 64; // settings that a worker is given at a time
    const size = Math.max(1, Math.min(4, (navigator.hardwareConcurrency || 2) - 1));
    let workers = null, task = null, serial = 0;

    function start() {
      if (workers) return;
      workers = [];
      try {
        const content = unpack();
        for (let i = 0; i < size; i++) {
          const one = { ready: false, part: null };
          one.worker = open(content, (data) => receive(one, data), () => one.part, giveUp);
          workers.push(one);
        }
      } catch (error) {
        giveUp(reason(error.message) || String(error));
      }
    }

    function stop() {
      for (const { worker } of workers || []) worker.close();
      workers = []; // there is no second attempt
      task = null;
    }

    function giveUp(why) {
      stop();
      failed(why);
    }

    function receive(one, data) {
      if (data.type === "error") return giveUp(data.message);
      if (data.type === "ready") one.ready = true;
      else if (!one.part || data.id !== one.part.id) return; // of a task that was given up
      else if (data.type === "runs") for (const run of data.runs) task.got(one.part.first + one.part.done++, run);
      else if (data.type === "done" || data.type === "cancelled") one.part = null;
      if (!one.part) hand(one);
    }

    /** Gives a worker its next share; the last one that is done ends the task. */
    function hand(one) {
      if (!task || !one.ready) return;
      if (task.next < task.settings.length) {
        one.part = { id: ++serial, first: task.next, done: 0 };
        task.next += SHARE;
        one.worker.post({ type: "several", id: one.part.id, settings: task.settings.slice(one.part.first, task.next) });
      } else if (workers.every(({ part }) => !part)) {
        const { over, began } = task;
        task = null;
        over(performance.now() - began);
      }
    }

    function cancel() {
      task = null;
      for (const one of workers || []) {
        if (one.part) one.worker.post({ type: "cancel" });
        one.part = null;
      }
    }

    return {
      size,
      start,
      stop,
      cancel,
      train(settings, got, over) {
        start();
        cancel();
        if (!workers.length) return;
        task = { settings, got, over, next: 0, began: performance.now() };
        workers.forEach(hand);
      },
    };
  }

  // ---- links and files ----------------------------------------------------------------------

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  /** `#explore=2&lr=0.123&seed=5`: the page's second figure at this setting. */
  const writeHash = (figure, setting) => `#${new URLSearchParams({ explore: figure, ...setting })}`;

  /** The setting that a link asks of a figure, or null. Whatever is no number or no choice is left out; numbers are
   * brought into the range of their slider. */
  function readHash(hash, figure, dims) {
    const asked = new URLSearchParams(hash.slice(1)), setting = {};
    if (asked.get("explore") !== String(figure)) return null;
    for (const { name, kind, values, range, integer } of dims) {
      const text = (asked.get(name) || "").trim(), number = Number(text);
      const [low, high] = range || [values[0], values[values.length - 1]];
      if (kind === "choice") {
        const choice = values.find((v) => String(v) === text);
        if (choice !== undefined) setting[name] = choice;
      } else if (text && Number.isFinite(number)) {
        setting[name] = clamp(integer ? Math.round(number) : number, low, high);
      }
    }
    return setting;
  }

  const cell = (value) => {
    const text = typeof value === "number" ? (Number.isNaN(value) ? "" : String(Number(value.toPrecision(9)))) : String(value);
    return /[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };

  /** Rows of a table as CSV. */
  const csv = (header, rows) => [header, ...rows].map((row) => row.map(cell).join(",") + "\n").join("");

  const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity", "paint-order",
    "font-family", "font-size", "font-weight", "font-style", "visibility"];

  /** A drawing as a file of its own: styles written into its elements, lines of text below it, paper behind it. */
  function standalone(svg, title, lines, paper) {
    const copy = svg.cloneNode(true), own = svg.querySelectorAll("*"), make = (tag) => document.createElementNS(svg.namespaceURI, tag);
    copy.querySelectorAll("*").forEach((element, i) => {
      const style = getComputedStyle(own[i]);
      element.style.cssText = STYLES.map((name) => `${name}:${style.getPropertyValue(name)}`).join(";");
      element.removeAttribute("class");
    });
    const [width, height] = ["width", "height"].map((name) => Number(svg.getAttribute(name))), ink = getComputedStyle(svg).color;
    const air = 16, frame = { x: -air, y: -air, width: width + 2 * air, height: height + 20 * lines.length + 2 * air };
    copy.setAttribute("width", frame.width);
    copy.setAttribute("height", frame.height);
    copy.setAttribute("viewBox", Object.values(frame).join(" "));
    lines.forEach((line, i) => {
      const text = make("text");
      text.textContent = line;
      text.setAttribute("y", height + 20 * (i + 1));
      text.style.cssText = `fill:${ink};font-size:13px;font-family:${getComputedStyle(svg).fontFamily}`;
      copy.append(text);
    });
    const name = make("title"), back = make("rect");
    name.textContent = title;
    for (const [attribute, value] of Object.entries({ ...frame, style: `fill:${paper}` })) back.setAttribute(attribute, value);
    copy.prepend(name, back);
    return new XMLSerializer().serializeToString(copy);
  }

  /** Gives the reader a file. */
  function download(name, type, content) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  return { missing, makeTrainer, makePool, writeHash, readHash, csv, standalone, download };
})();
