// The few things on the site that need a script of its own. Everything works without it:
// the ledger then shows all rows.
(() => {
  "use strict";

  // Read from a disk, a page may not fetch another: search lists titles without excerpts.
  if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
    DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
  }

  // Whatever scrolls sideways can be reached and scrolled with the keyboard.
  const reachable = () => {
    for (const box of document.querySelectorAll(".bd-article pre, .bd-article div.math, .bd-article mjx-container, .pst-scrollable-table-container")) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    }
  };

  const ledger = () => {
    const form = document.querySelector("form.d-filter");
    if (!form) return;
    const bodies = [...document.querySelectorAll(".d-ledger tbody")];
    const text = new Map(bodies.map((body) => [body, body.textContent.toLowerCase()]));
    const show = () => {
      const { chapter, status, words } = Object.fromEntries(new FormData(form));
      const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const body of bodies) {
        const keep = (!chapter || body.dataset.chapter === chapter) && (!status || body.dataset.status === status)
          && wanted.every((word) => text.get(body).includes(word));
        body.hidden = !keep;
        shown += keep;
      }
      form.querySelector("output").textContent = `${shown} of ${bodies.length} shown`;
    };
    form.addEventListener("input", show);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    show();
  };

  ledger();
  // formulas have their width once they are set
  window.addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(reachable));
})();
