// Trains networks in the reader's browser: runs the module of a package (see descent.browser) in a Web Worker.
//
// page -> worker: {type: "load", package}, {type: "train", id, setting}, {type: "several", id, settings}, {type: "cancel"}
// worker -> page: {type: "ready", ms}, {type: "progress", id, step, curves}, {type: "done", id, step, ms, curves, diverged_at},
//                 {type: "cancelled", id}, {type: "error", id, message}
// Of several settings, trained one after another, progress is {type: "runs", id, runs}, each run {step, curves, diverged_at},
// in their order, those that came before left out; the end is {type: "done", id, ms}.
"use strict";
{
  const WORK = 10; // milliseconds of work between looks at the queue of messages
  const REPORT = 30; // milliseconds between reports of progress

  let loaded = null; // {description, exports, variable}
  let training = null; // the run under way
  let several = null; // the settings that are trained one after another: {settings, next, runs, start, reported}
  const queue = new MessageChannel(); // a message to oneself comes after those that wait, and without setTimeout's delay

  const unpacked = async (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };

  async function load({ module, data, description }) {
    const start = performance.now();
    cancel();
    const [code, contents] = await Promise.all([unpacked(module), unpacked(data)]);
    const { instance } = await WebAssembly.instantiate(code, {}); // it imports nothing: it can touch its own memory alone
    const exports = instance.exports;
    const variable = (name, kind, length) => new kind(exports.memory.buffer, exports[name].value, length);
    let offset = 0;
    for (const [name, size] of description.variables) {
      variable(name, Uint8Array, size).set(contents.subarray(offset, offset + size));
      offset += size;
    }
    if (offset !== contents.length) throw new Error(`the data has ${contents.length} bytes, the description ${offset}`);
    loaded = { description, exports, variable };
    postMessage({ type: "ready", ms: performance.now() - start });
  }

  function checked(name, value, rule) {
    if (rule.choices) {
      if (!rule.choices.includes(value)) throw new RangeError(`${name}=${value}; choose from ${rule.choices.join(", ")}`);
    } else if (typeof value !== "number" || !(value >= rule.min && value <= rule.max) || (rule.integer && !Number.isInteger(value))) {
      throw new RangeError(`${name}=${value}; allowed: ${rule.integer ? "whole " : ""}numbers from ${rule.min} to ${rule.max}`);
    }
    return value;
  }

  // Nothing reaches the module's memory before all of the setting has been found to be in range.
  function write(setting) {
    const { description, variable } = loaded;
    const { hyperparameters, seeds } = description;
    for (const name of Object.keys(setting)) {
      if (name !== "seeds" && !Object.hasOwn(hyperparameters, name)) throw new RangeError(`there is no hyperparameter ${name}`);
    }
    if (!Array.isArray(setting.seeds) || setting.seeds.length !== seeds) throw new RangeError(`seeds=${setting.seeds}; give ${seeds} of them`);
    setting.seeds.forEach((seed) => checked("seed", seed, description.seed));
    for (const [name, rule] of Object.entries(hyperparameters)) checked(name, setting[name], rule);
    variable("seeds", BigInt64Array, seeds).set(setting.seeds.map(BigInt));
    for (const [name, rule] of Object.entries(hyperparameters)) {
      if (rule.choices) variable(name, Int32Array, 1)[0] = rule.choices.indexOf(setting[name]);
      else if (rule.integer) variable(name, Int32Array, 1)[0] = setting[name];
      else variable(`h_${name}`, Float32Array, 1)[0] = setting[name];
    }
  }

  function train(id, setting) {
    cancel();
    begin(id, setting);
    work();
  }

  function trainSeveral(id, settings) {
    cancel();
    if (!Array.isArray(settings) || !settings.length) throw new RangeError(`settings=${settings}; give a list of one or more`);
    const start = performance.now();
    several = { settings, next: 1, runs: [], start, reported: start };
    begin(id, settings[0]);
    work();
  }

  function begin(id, setting) {
    if (!loaded) throw new Error("no package is loaded");
    write(setting);
    const { record, record_steps, seeds } = loaded.description;
    const curves = Object.fromEntries(record.map((name) => [name, new Float32Array(seeds * record_steps.length).fill(NaN)]));
    const start = performance.now();
    training = { id, step: 0, column: 0, curves, start, reported: start };
    loaded.exports.begin();
  }

  function cancel() {
    if (training) postMessage({ type: "cancelled", id: training.id });
    training = several = null;
  }

  function measure() {
    const { description, exports, variable } = loaded;
    const { record, record_steps, seeds } = description;
    exports.measure();
    const values = variable("recorded", Float32Array, record.length * seeds);
    record.forEach((name, row) => {
      for (let k = 0; k < seeds; k++) training.curves[name][k * record_steps.length + training.column] = values[row * seeds + k];
    });
    training.column++;
  }

  // Go on with the training for a while.
  function work() {
    if (!training) return;
    const { description, exports, variable } = loaded;
    const until = performance.now() + WORK;
    const diverged = variable("diverged_at", Float32Array, description.seeds);
    let over;
    do {
      if (training.step === description.record_steps[training.column]) measure();
      over = diverged.every((at) => !isNaN(at));
      if (!over) exports.step(); // the one after the last tells which networks have diverged in that
      over ||= training.step === description.steps;
      if (!over) training.step++;
    } while (!over && performance.now() < until);
    const { id, step, curves, start } = training;
    const now = performance.now();
    if (over) {
      const run = { step, curves, diverged_at: Array.from(diverged) };
      training = null;
      if (several) return another(id, run, now);
      postMessage({ type: "done", id, ms: now - start, ...run });
      return;
    }
    if (!several && now - training.reported >= REPORT) {
      training.reported = now;
      postMessage({ type: "progress", id, step, curves });
    }
    queue.port2.postMessage(null);
  }

  // Of several settings one is done: go on to the next.
  function another(id, run, now) {
    const { settings, runs } = several, over = several.next === settings.length;
    runs.push(run);
    if (over || now - several.reported >= REPORT) {
      several.reported = now;
      postMessage({ type: "runs", id, runs: runs.splice(0) });
    }
    if (over) {
      postMessage({ type: "done", id, ms: now - several.start });
      several = null;
    } else {
      begin(id, settings[several.next++]);
      queue.port2.postMessage(null); // a message that waits comes first
    }
  }

  const handlers = {
    load: ({ package: content }) => load(content),
    train: ({ id, setting }) => train(id, setting),
    several: ({ id, settings }) => trainSeveral(id, settings),
    cancel,
  };

  const guarded = (id, action) =>
    new Promise((resolve) => resolve(action())).catch((error) => {
      training = several = null;
      postMessage({ type: "error", id, message: error.message });
    });

  queue.port1.onmessage = () => guarded(training?.id, work);
  self.onmessage = ({ data }) => guarded(data.id, () => handlers[data.type](data));
}
