// Markdown as elements. The library only reads it; every element is made here, by name, and all texts stay texts: of links
// and pictures the words are shown, and HTML stands as it was written.

const MOST_MARKDOWN = 20_000;

/** @type {Record<string, (token: any) => Child | Child[]>} */
const MARKDOWN = {
  space: () => [],
  def: () => [],
  br: () => h("br"),
  hr: () => h("hr"),
  paragraph: (token) => h("p", {}, inside(token)),
  heading: (token) => h("p", { class: "heading" }, inside(token)),
  blockquote: (token) => h("blockquote", {}, inside(token)),
  list: (token) => h(token.ordered ? "ol" : "ul", { start: token.ordered ? Number(token.start) || 0 : null }, token.items.map((item) => h("li", {}, inside(item)))),
  checkbox: (token) => (token.checked ? "☑ " : "☐ "),
  code: (token) => h("pre", {}, h("code", {}, withHits(token.text))),
  codespan: (token) => h("code", {}, withHits(token.text)),
  strong: (token) => h("strong", {}, inside(token)),
  em: (token) => h("em", {}, inside(token)),
  del: (token) => h("s", {}, inside(token)),
  link: (token) => h("span", { class: "words", title: token.href }, inside(token)),
  image: (token) => withHits(`[picture: ${token.text}]`),
  table: (token) => h("table", { class: "data" }, h("tbody", {}, [token.header, ...token.rows].map((cells) => h("tr", {}, cells.map((cell) => h(cell.header ? "th" : "td", {}, inside(cell))))))),
};

/** @returns {Child[]} */
function inside(token) {
  return token.tokens ? token.tokens.flatMap(elementOf) : withHits(token.text ?? token.raw);
}

function elementOf(token) {
  return Object.hasOwn(MARKDOWN, token.type) ? MARKDOWN[token.type](token) : inside(token);
}

/** Shows a text as it is, or as Markdown where the reader wants that; a text that can't be read as such stays as it is. */
function textPart(text) {
  if (state.markdown && text.length <= MOST_MARKDOWN) {
    try {
      need("marked");
      return h("div", { class: "text markdown" }, globalThis.marked.lexer(text).flatMap(elementOf));
    } catch (error) {
      // Nested too deeply.
    }
  }
  return h("div", { class: "text" }, withHits(text));
}
