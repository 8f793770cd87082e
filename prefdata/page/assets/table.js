// The table behind a plot: the same numbers for those who can't see or drag it, each row a filter.

/**
 * Makes a table with a caption.
 * @param {string} caption @param {string[]} head @param {Array<Child[]>} rows
 */
function dataTable(caption, head, rows) {
  return h("table", { class: "data" },
    h("caption", { text: caption }),
    h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col", text: name })))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, at) => (at ? h("td", {}, cell) : h("th", { scope: "row" }, cell)))))));
}

/**
 * Puts a button next to a picture that shows the table in its place.
 * @param {string} title @param {() => HTMLElement} picture @param {() => HTMLElement} table
 */
function pictureWithTable(title, picture, table) {
  const body = h("div", { class: "picture" }, picture());
  let asTable = false;
  const button = h("button", {
    type: "button", class: "quiet small", "aria-pressed": "false", "aria-label": `Table: ${title}`, text: "Table",
    onclick: () => {
      asTable = !asTable;
      button.setAttribute("aria-pressed", String(asTable));
      redraw();
    },
  });
  const redraw = () => fill(body, asTable ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table: ${title}` }, table()) : picture());
  const figure = h("figure", { class: "plot" }, h("figcaption", {}, h("span", { text: title }), button), body);
  return { figure, redraw };
}

/** Makes a button that filters the list. */
function filterButton(text, label, onclick, pressed = false) {
  return h("button", { type: "button", class: "link", "aria-label": label, "aria-pressed": pressed ? "true" : null, onclick, text });
}
