/* Whether a figure stands on a dark or on a light page: read from what the page paints there, because every host has a name
 * of its own for its theme and some have none. `DescentTone.follow(figure)` writes data-descent-tone, for which quantities.py
 * has the colours, and writes it again whenever the page may have changed.
 */
var DescentTone = (() => {
  "use strict";
  const followed = new Map(); // figure -> what to call when its tone has changed

  /** [lightness from 0 to 1, opacity] of a computed colour, in whatever way the browser writes it. */
  function read(color) {
    const [, kind, rest] = /^([\w-]+)\(([^)]*)\)/.exec(color) || ["", "", "0 0 0 / 0"];
    const [a, b, c, alpha = 1] = rest.replace(/^[a-z][\w-]*/, "").split(/[\s,/]+/).filter(Boolean).map((v) => (v.endsWith("%") ? parseFloat(v) / 100 : parseFloat(v) || 0));
    if (kind.startsWith("ok")) return [a, alpha];
    if (kind === "lab" || kind === "lch") return [a / 100, alpha];
    return [(0.299 * a + 0.587 * b + 0.114 * c) / (kind === "color" ? 1 : 255), alpha];
  }

  const above = (element) => element.assignedSlot || element.parentElement || element.getRootNode().host;

  /** The lightness of what lies behind an element; where nothing is painted (a transparent frame), the opposite of its text. */
  function behind(element) {
    for (let at = above(element); at; at = above(at)) {
      const style = getComputedStyle(at), [light, opacity] = read(style.backgroundColor);
      const gradient = /(rgba?|color|oklab|oklch|lab|lch)\([^)]*\)/.exec(style.backgroundImage);
      if (gradient) return read(gradient[0])[0];
      if (style.backgroundImage.startsWith("url(")) break;
      if (opacity > 0.5) return light;
    }
    return 1 - read(getComputedStyle(above(element) || element).color)[0];
  }

  function mark(figure) {
    if (!figure.isConnected) return;
    const tone = behind(figure) < 0.5 ? "dark" : "light";
    if (figure.dataset.descentTone === tone) return;
    figure.dataset.descentTone = tone;
    followed.get(figure)();
  }

  const all = () => [...followed.keys()].forEach(mark);
  const around = (target) => [...followed.keys()].some((figure) => target !== figure && target.contains(figure));
  let watching = null;

  /** A host changes its theme by an attribute, a style sheet or the system's choice, at once or in a transition. */
  function watch() {
    watching = new MutationObserver((changes) => { if (changes.some(({ target }) => target === document.head || around(target))) all(); });
    watching.observe(document, { subtree: true, attributeFilter: ["class", "style"] });
    for (const target of [document.documentElement, document.body]) watching.observe(target, { attributes: true });
    watching.observe(document.head, { childList: true });
    document.addEventListener("load", ({ target }) => { if (target.tagName === "LINK") all(); }, true);
    document.addEventListener("transitionend", ({ target, propertyName }) => { if (/color|background/.test(propertyName) && around(target)) all(); });
    for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) matchMedia(query).addEventListener("change", all);
  }

  const sized = new ResizeObserver((entries) => entries.forEach(({ target }) => followed.has(target) && mark(target))); // put into the page, perhaps again

  /** Marks a figure from now on, until the function that this returns is called. */
  function follow(figure, changed = () => {}) {
    followed.set(figure, changed);
    if (!watching) watch();
    sized.observe(figure);
    mark(figure);
    return () => { followed.delete(figure); sized.unobserve(figure); };
  }

  return { follow };
})();
