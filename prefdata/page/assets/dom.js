// Elements. Texts enter by textContent only, so that nothing of the data is ever read as markup.

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Makes an element.
 * @param {string} tag
 * @param {Record<string, any>} [attributes] `on…` are listeners, `text` is the text, others are attributes
 * @param {...Child} children
 * @returns {HTMLElement}
 */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

/** @param {Element} parent @param {Child[]} children */
function add(parent, children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Puts other children into an element. @param {Element} parent @param {...Child} children */
function fill(parent, ...children) {
  parent.textContent = "";
  add(parent, children);
}

/** @param {string} id @returns {HTMLElement} */
function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/**
 * Runs libraries that have not run yet. They stand in the page as texts: one that a view has no use for costs it no time.
 * @param {...string} names
 */
function need(...names) {
  for (const name of names) {
    const text = document.getElementById(`library-${name}`);
    if (!text) continue;
    text.remove();
    const script = h("script", { text: text.textContent });
    document.head.append(script);
    script.remove();
  }
}

/** Writes a number for people. @param {number | null | undefined} value */
function shown(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  return Math.abs(value) >= 1e6 || Math.abs(value) < 1e-3 ? value.toPrecision(3) : String(+value.toFixed(3));
}

/** Shortens a text for a label. @param {string} text @param {number} most */
function short(text, most) {
  const letters = [...text];
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : text;
}
