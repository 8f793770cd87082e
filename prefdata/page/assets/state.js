// What the page shows now. It is in the address, so that a link shows the same.

const startState = () => ({
  /** @type {"overview" | "list" | "dropped"} */
  view: "overview",
  /** @type {string | null} The pair that is open. */
  pair: null,
  query: "",
  diff: false,
  markdown: false,
  /** @type {Map<string, {low: number, high: number} | {values: string[]}>} Column → what is kept. */
  filters: new Map(),
  sort: "",
});
const state = startState();

/** @type {Array<(changed: Set<string>) => void>} */
const listeners = [];

/** Changes the state, and lets every part of the page follow. @param {Partial<typeof state>} change */
function update(change) {
  const changed = new Set(Object.keys(change).filter((name) => state[name] !== change[name]));
  Object.assign(state, change);
  writeAddress();
  for (const listener of listeners) listener(changed);
}

/** Sets or removes the filter of a column. */
function filterBy(column, what) {
  const filters = new Map(state.filters);
  if (what) filters.set(column, what);
  else filters.delete(column);
  update({ filters });
}

/** Opens the list with one value of a column only: what a click on a stream of the overview does. */
function showOnly(column, value) {
  const dropped = column === "outcome" && described.outcome && isDropped(value);
  update({ view: dropped ? "dropped" : "list", filters: new Map([[column, { values: [value] }]]), query: "" });
  byId("search").value = "";
}

/** Says whether an outcome is that of a prompt without a pair. */
function isDropped(outcome) {
  return META.kind !== "evaluation" && outcome !== "pair" && !String(outcome).endsWith(" only");
}

function filterText([column, filter]) {
  const value = "values" in filter ? `=${filter.values.map(encodeURIComponent).join("|")}` : `:${filter.low}..${filter.high}`;
  return encodeURIComponent(column) + value;
}

/** Writes the state into the address. */
function writeAddress() {
  const parts = [];
  if (state.view !== "overview") parts.push(`v=${state.view}`);
  if (state.pair !== null) parts.push(`p=${encodeURIComponent(state.pair)}`);
  if (state.query) parts.push(`q=${encodeURIComponent(state.query)}`);
  for (const filter of state.filters) parts.push(`f=${encodeURIComponent(filterText(filter))}`);
  if (state.sort) parts.push(`s=${encodeURIComponent(state.sort)}`);
  if (state.diff) parts.push("d=1");
  if (state.markdown) parts.push("m=1");
  const hash = parts.length ? `#${parts.join("&")}` : "";
  if (location.hash !== hash) history.replaceState(null, "", hash || location.pathname + location.search);
}

function readFilter(text) {
  const range = /^([^=:]+):(.+)\.\.(.+)$/.exec(text);
  if (range) return [decodeURIComponent(range[1]), { low: Number(range[2]), high: Number(range[3]) }];
  const at = text.indexOf("=");
  return [decodeURIComponent(text.slice(0, at)), { values: text.slice(at + 1).split("|").map(decodeURIComponent) }];
}

/** Reads the state that an address holds; what it does not name is as at the start. */
function addressState() {
  const found = startState();
  try {
    for (const [name, value] of new URLSearchParams(location.hash.slice(1).replaceAll("+", "%2B"))) {
      if (name === "v" && ["list", "dropped"].includes(value)) found.view = value;
      else if (name === "p") found.pair = value;
      else if (name === "q") found.query = value;
      else if (name === "s") found.sort = value;
      else if (name === "d") found.diff = value === "1";
      else if (name === "m") found.markdown = value === "1";
      else if (name === "f") {
        const [column, filter] = readFilter(value);
        if (described[column] && described[column].kind !== "text") found.filters.set(column, filter);
      }
    }
  } catch (error) {
    // An address that somebody typed: what was read of it counts.
  }
  if (found.view === "overview" && (found.pair !== null || found.query || found.filters.size)) found.view = "list";
  return found;
}

/** Makes the tests of the filters of plots and streams. @returns {Array<(row: number) => boolean>} */
function filterTests() {
  const tests = [];
  for (const [name, filter] of state.filters) {
    const values = columns[name];
    if ("low" in filter) tests.push((row) => values[row] >= filter.low && values[row] <= filter.high);
    else if (described[name].kind === "flags") {
      const bits = filter.values.reduce((all, value) => all | (1 << described[name].values.indexOf(value)), 0);
      tests.push((row) => (values[row] & bits) !== 0);
    } else if (described[name].kind === "number") {
      const wanted = new Set(filter.values.map(Number));
      tests.push((row) => wanted.has(values[row]));
    } else {
      const wanted = new Set(filter.values.map((value) => described[name].values.indexOf(value) + 1));
      tests.push((row) => wanted.has(values[row]));
    }
  }
  return tests;
}
