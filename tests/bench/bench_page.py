"""Training in the reader's browser: what a page weighs and how long its reader waits, in headless Chromium."""

from __future__ import annotations

import base64
from statistics import median

from explorer_data import TEXT
from pages import launched, write_page

from descent import Task, data, explore, models, sweep

STEPS = 400
#: notes when a run that a slider asked for is drawn, and every long task of the main thread
WATCH = """
window.runs = []; window.long = [0];
new PerformanceObserver((list) => long.push(...list.getEntries().map((e) => e.duration))).observe({ type: "longtask", buffered: true });
const Original = window.Worker;
window.Worker = class extends Original {
  constructor(...a) {
    super(...a);
    this.addEventListener("message", ({ data }) => {
      if (data.type === "ready") window.ready = true;
      if (data.type === "done" && data.id === window.asked) requestAnimationFrame(() => setTimeout(() => { runs.push(performance.now() - since); }));
    });
  }
  postMessage(message) {
    if (message.type === "train" && window.asked === null) window.asked = message.id;
    super.postMessage(message);
  }
};
window.move = (position) => {
  const slider = document.querySelector("input[data-dim=lr]");
  window.asked = null;
  window.since = performance.now();
  slider.value = position;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
};
window.addEventListener("load", () => { move(1.3); window.since = performance.now(); });
"""


def bench_page(keep, size, tmp_path):
    task = Task(models.MLP((64, 64, 10)), data.digits(1000))
    ds = sweep(task, lr=[0.03, 0.1, 0.3], batch_size=[16, 64, 256], init_scale=[0.5, 1.0, 2.0], seed=[0], steps=STEPS, record=["loss"], record_every=10)
    figure = explore(ds, "loss", start={"lr": 0.1, "batch_size": 64, "init_scale": 1.0}, browser=True, **TEXT)
    where, first, later, tasks = write_page(tmp_path, figure), [], [], []
    with launched() as chromium:
        for _ in range(size(9, 2)):
            page = chromium.new_page()
            page.add_init_script(WATCH)
            page.goto(where.as_uri())
            page.wait_for_function("runs.length === 1")
            for i in range(8):
                slider = page.locator("input[data-dim=lr]")
                low, high = (float(slider.get_attribute(end)) for end in ("min", "max"))
                page.evaluate("move", low + (high - low) * (0.21 + 0.07 * i))
                page.wait_for_function(f"runs.length === {i + 2}")
            times, longest = page.evaluate("runs"), page.evaluate("Math.max(...long)")
            first.append(times[0])
            later.append(median(times[1:]))
            tasks.append(longest)
            page.close()
    package = figure.package
    weight = sum(len(base64.b64decode(package[part])) for part in ("module", "data")) / 1000
    keep(
        title=f"MLP 64-64-10, batch 64, {STEPS} steps in the page",
        budget=[
            {"name": "module and data, gzipped", "values": [weight], "most": 150, "unit": "kB"},
            {"name": "from the load event to the first trained curve", "values": first, "most": 300, "unit": "ms"},
            {"name": "from a slider to its new curve", "values": later, "most": 150, "unit": "ms"},
            {"name": "longest task of the main thread", "values": tasks, "most": 50, "unit": "ms"},
        ],
    )
