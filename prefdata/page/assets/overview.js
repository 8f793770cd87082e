// The first view: what this dataset is, what became of every row, and whether something worries.

const STATES = { good: "fine", worry: "look at this", over: "over the limit" };

function drawOverview() {
  const verdict = META.verdict && h("p", { class: `verdict ${META.verdict[0]}` }, badge(META.verdict[0], { good: "verified", bad: "differences", open: "not verified" }[META.verdict[0]]), " ", META.verdict[1]);
  fill(byId("overview"),
    h("dl", { class: "facts" }, META.facts.map(([label, value]) => h("div", {}, h("dt", { text: label }), h("dd", { text: value })))),
    verdict,
    META.rule && h("p", { class: "rule" }, h("strong", { text: "Pair rule " }), META.rule),
    META.flows.length ? h("h2", { text: "What became of every row" }) : null,
    META.flows.filter((flow) => flow.links.length).map(flowFigure),
    META.measures.length ? h("h2", { text: META.kind === "table" ? "What an audit finds" : "Does something worry?" }) : null,
    META.measures.length ? measures() : null,
    META.tables.map((table) => h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": table.title },
      dataTable(table.title, table.head, table.rows))),
    models(),
    notices());
}

function badge(kind, text = STATES[kind]) {
  return h("span", { class: `badge ${kind}`, text });
}

/** Puts what worries first. */
function measures() {
  const order = ["over", "worry", "good"];
  const sorted = [...META.measures].sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
  return h("ul", { class: "measures" }, sorted.map((measure) => h("li", { class: measure.state },
    h("div", { class: "measure-head" }, h("h3", { text: measure.title }), badge(measure.state)),
    h("p", { class: "number", text: measure.shown }),
    h("p", { text: measure.says }),
    h("p", { class: "soft" }, measure.means, measure.limit ? ` The recipe's limit: ${measure.limit}.` : ""))));
}

function models() {
  const names = Object.keys(META.models);
  return names.length > 0 && h("details", {}, h("summary", { text: "Models and revisions, as the lock pins them" }),
    dataTable("What the lock pins of each source", ["source", "pins"], names.map((name) => [name, META.models[name]])));
}

function notices() {
  return h("details", {}, h("summary", { text: "Libraries in this page, and their licences" }),
    META.notices.map((notice) => h("div", {}, h("h3", { text: `${notice.name} ${notice.version} (${notice.licence})` }),
      h("pre", { class: "notice", text: notice.text }))));
}
