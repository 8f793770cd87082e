// Distributions of the columns. Grey is the whole list, blue what is shown; a drag or a click filters the list.

const PLOT = { width: 232, height: 108, marginLeft: 8, marginRight: 10, marginTop: 6, marginBottom: 22 };
const BARS = 8;
const FEW_VALUES = 12;
/** Most bars whose names are all shown. */
const MOST_NAMES = 9;
/** @type {Array<() => void>} */
let redraws = [];
/** @type {Uint32Array} Rows of the view whose distributions are drawn. */
let plottedRows = new Uint32Array(0);

/** Draws the distributions of the view, or what the list shows of it anew. */
function showPlots() {
  if (viewRows === plottedRows) return redraws.forEach((redraw) => redraw());
  plottedRows = viewRows;
  drawPlots(viewRows);
}

/** Draws every distribution of the rows of a view. @param {Uint32Array} rows */
function drawPlots(rows) {
  need("d3", "@observablehq/plot");
  const plots = META.columns.filter((column) => column.plotted && !(column.name === "outcome" && META.kind !== "evaluation"))
    .map((column) => plotOf(column, rows)).filter(Boolean);
  redraws = plots.map((plot) => plot.redraw);
  fill(byId("plots"), plots.map((plot) => plot.figure));
}

function plotOf(column, rows) {
  const bins = column.kind === "number" ? numberBins(column, rows) : nameBins(column, rows);
  if (!bins || bins.all.length === 0) return null;
  const counted = () => bins.count(lines);
  const draw = bins.edges ? () => histogram(column, bins, counted()) : () => bars(column, bins, counted());
  return pictureWithTable(column.title, draw, () => binTable(column, bins, counted()));
}

/** Cuts a column of numbers into bins; few whole numbers are bars. */
function numberBins(column, rows) {
  const values = columns[column.name];
  const known = Float64Array.from(rows, (row) => values[row]).filter((value) => !Number.isNaN(value)).sort();
  if (!known.length) return null;
  const distinct = new Set();
  for (const value of known) {
    distinct.add(value);
    if (distinct.size > FEW_VALUES) break;
  }
  if (distinct.size <= FEW_VALUES) return valueBins(column, rows, [...distinct]);
  const [low, high] = [known[Math.floor(known.length * 0.002)], known[Math.ceil(known.length * 0.998) - 1]];
  const ticks = d3.ticks(low, high, 24);
  const step = ticks.length > 1 ? ticks[1] - ticks[0] : 1;
  const edges = d3.range(Math.floor(low / step), Math.ceil(high / step) + 1).map((at) => at * step);
  if (edges.length < 2) edges.push(edges[0] + step);
  const placeOf = (row) => Math.min(edges.length - 2, Math.max(0, Math.floor(values[row] / step + 1e-9) - Math.round(edges[0] / step)));
  return binsOf(rows, edges.length - 1, (row) => (Number.isNaN(values[row]) ? -1 : placeOf(row)), {
    edges,
    names: edges.slice(1).map((edge, at) => `${shown(edges[at])} to ${shown(edge)}`),
    filters: edges.slice(1).map((edge, at) => rangeOf(edges, at, at + 1)),
  });
}

/** Gives the range between two edges, without an end where it is the outermost one. */
function rangeOf(edges, first, last) {
  return {
    low: first === 0 ? -Infinity : edges[first],
    high: last === edges.length - 1 ? Infinity : edges[last] - Math.abs(edges[1] - edges[0]) * 1e-6,
  };
}

function valueBins(column, rows, distinct) {
  const values = columns[column.name];
  const places = new Map(distinct.map((value, at) => [value, at]));
  return binsOf(rows, distinct.length, (row) => places.get(values[row]) ?? -1, {
    names: distinct.map(shown), filters: distinct.map((value) => ({ values: [String(value)] })), ordered: true,
  });
}

function nameBins(column, rows) {
  const values = columns[column.name];
  const flags = column.kind === "flags";
  const totals = column.values.map((_, at) => [at, 0]);
  for (const row of rows) {
    if (flags) totals.forEach((total) => { if (values[row] & (1 << total[0])) total[1]++; });
    else if (values[row]) totals[values[row] - 1][1]++;
  }
  const most = totals.filter((total) => total[1]).sort((a, b) => b[1] - a[1]).slice(0, BARS).map((total) => total[0]);
  if (!most.length || (most.length === 1 && totals[most[0]][1] === rows.length)) return null;
  const names = most.map((at) => column.values[at]);
  const filters = names.map((name) => ({ values: [name] }));
  if (flags) {
    const count = (some) => most.map((bit) => some.reduce((sum, row) => sum + ((values[row] >> bit) & 1), 0));
    return { all: count(rows), count, names, filters };
  }
  const places = new Map(most.map((code, at) => [code + 1, at]));
  return binsOf(rows, most.length, (row) => places.get(values[row]) ?? -1, { names, filters });
}

function binsOf(rows, size, placeOf, more) {
  const count = (some) => {
    const counts = new Array(size).fill(0);
    for (const row of some) {
      const at = placeOf(row);
      if (at >= 0) counts[at]++;
    }
    return counts;
  };
  return { ...more, all: count(rows), count };
}

function plotStyle() {
  return { background: "none", color: "var(--soft)", fontSize: "10px", overflow: "visible", maxWidth: "none" };
}

/** Makes a plot one picture with one name; the names of its marks are of no use to a reader. */
function asPicture(svg) {
  svg.setAttribute("role", "img");
  for (const mark of svg.querySelectorAll("g[aria-label]")) mark.removeAttribute("aria-label");
}

/** Draws numbers as a histogram that can be dragged across. */
function histogram(column, bins, counts) {
  const rows = bins.all.map((all, at) => ({ x1: bins.edges[at], x2: bins.edges[at + 1], all, now: counts[at] }));
  const svg = Plot.plot({
    ...PLOT, style: plotStyle(), ariaLabel: `${column.title}: ${column.about} Its numbers are in the table.`,
    x: { label: null, ticks: 4, tickSize: 3 }, y: { axis: null, domain: [0, Math.max(...bins.all, 1)] },
    marks: [
      Plot.rectY(rows, { x1: "x1", x2: "x2", y: "all", fill: "var(--bar-all)", insetLeft: 0.5, insetRight: 0.5 }),
      Plot.rectY(rows, { x1: "x1", x2: "x2", y: "now", fill: "var(--bar)", insetLeft: 0.5, insetRight: 0.5 }),
      Plot.ruleY([0], { stroke: "var(--line)" }),
    ],
  });
  asPicture(svg);
  addBrush(svg, column, bins);
  return svg;
}

/** Lets a drag across a histogram filter the list. */
function addBrush(svg, column, bins) {
  const scale = svg.scale("x");
  const [left, right, top, bottom] = [PLOT.marginLeft, PLOT.width - PLOT.marginRight, PLOT.marginTop, PLOT.height - PLOT.marginBottom];
  const brush = d3.brushX().extent([[left, top], [right, bottom]]).on("end", (event) => {
    if (!event.sourceEvent) return;
    if (!event.selection) return filterBy(column.name, null);
    const edges = bins.edges.map(scale.apply);
    const nearest = (at) => d3.minIndex(edges, (edge) => Math.abs(edge - at));
    let [first, last] = event.selection.map(nearest);
    if (first === last) [first, last] = first === 0 ? [0, 1] : [first - 1, first];
    filterBy(column.name, rangeOf(bins.edges, first, last));
  });
  const group = d3.select(svg).append("g").attr("class", "brush").call(brush);
  const filter = state.filters.get(column.name);
  if (filter && "low" in filter) {
    const place = (value, otherwise) => (Number.isFinite(value) ? Math.min(right, Math.max(left, scale.apply(value))) : otherwise);
    group.call(brush.move, [place(filter.low, left), place(filter.high, right)]);
  }
}

/** Draws names as bars that can be clicked. */
function bars(column, bins, counts) {
  const names = bins.names.map((name) => short(name, 17));
  const labels = names.map((name, at) => (names.indexOf(name) === at ? name : `${name} ${at}`));
  const rows = bins.all.map((all, at) => ({ name: labels[at], all, now: counts[at] }));
  const svg = Plot.plot({
    ...PLOT, marginLeft: bins.ordered ? 34 : 96, marginTop: 4, marginBottom: 4, style: plotStyle(),
    ariaLabel: `${column.title}: ${column.about} Its numbers are in the table.`,
    x: { axis: null, domain: [0, Math.max(...bins.all, 1)] },
    // Of many bars every second one has room for its name.
    y: { label: null, domain: labels, ticks: labels.filter((_, at) => labels.length <= MOST_NAMES || at % 2 === 0), tickSize: 0, tickPadding: 4 },
    marks: [
      Plot.barX(rows, { x: "all", y: "name", fill: "var(--bar-all)", insetTop: 1, insetBottom: 1 }),
      Plot.barX(rows, { x: "now", y: "name", fill: "var(--bar)", insetTop: 1, insetBottom: 1 }),
    ],
  });
  asPicture(svg);
  addClicks(svg, column, bins, labels);
  return svg;
}

/** Lets a click on a bar filter the list; a second one shows all again. */
function addClicks(svg, column, bins, labels) {
  const scale = svg.scale("y");
  const group = d3.select(svg).append("g");
  labels.forEach((label, at) => {
    group.append("rect").attr("class", "hit").attr("x", 0).attr("width", PLOT.width)
      .attr("y", scale.apply(label)).attr("height", scale.bandwidth)
      .on("click", () => toggleValue(column.name, bins.filters[at]))
      .on("pointermove", (event) => showTip(event, `${bins.names[at]}: ${shown(bins.all[at])}`))
      .on("pointerleave", hideTip);
  });
}

function sameFilter(one, other) {
  return Boolean(one && other) && JSON.stringify([one.values, String(one.low), String(one.high)]) === JSON.stringify([other.values, String(other.low), String(other.high)]);
}

function toggleValue(name, filter) {
  filterBy(name, sameFilter(state.filters.get(name), filter) ? null : filter);
}

function binTable(column, bins, counts) {
  return dataTable(column.about, [column.title, "all", "shown"], bins.names.map((name, at) => {
    const pressed = sameFilter(state.filters.get(column.name), bins.filters[at]);
    const button = filterButton(name, `Show only ${column.title} ${name}`, () => toggleValue(column.name, bins.filters[at]), pressed);
    return [button, shown(bins.all[at]), shown(counts[at])];
  }));
}

/** Shows a text next to the pointer. */
function showTip(event, text) {
  const tip = byId("tip");
  tip.textContent = text;
  tip.hidden = false;
  tip.style.left = `${Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${event.clientY + 14}px`;
}

function hideTip() {
  byId("tip").hidden = true;
}
