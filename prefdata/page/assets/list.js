// The list. Which rows it has, and in which order, is decided here, in arrays: the grid asks for each cell by its line,
// so it needs no object a row, and nothing of it has to be waited for.

const HIDDEN = new Set(["length_difference", "decided_rejected", "n_tied_chosen", "n_tied_rejected", "n_candidates"]);
const NARROW = new Set(["prompt", "margin", "outcome", "preference", "change"]);
const NUMBER_WIDTH = 122;

/** @type {any} */
let grid = null;
/** @type {Uint8Array | null} Rows that the search found. */
let hits = null;
/** Whether more hits may come. */
let searching = false;
/** @type {Uint32Array} Rows of the view. */
let viewRows = new Uint32Array(0);
/** @type {Uint32Array} Rows that pass the filters, in the order of the list. */
let lines = new Uint32Array(0);

/** Gives the rows of a view. @param {string} view */
function rowsOfView(view) {
  const isBefore = described.change ? described.change.values.indexOf("before") + 1 : 0;
  const dropped = [false, ...(described.outcome ? described.outcome.values.map(isDropped) : [])];
  const rows = new Uint32Array(META.rows);
  let size = 0;
  for (let row = 0; row < META.rows; row++) {
    if (isBefore && columns.change[row] === isBefore) continue;
    if (dropped[columns.outcome ? columns.outcome[row] : 0] === (view === "dropped")) rows[size++] = row;
  }
  return rows.subarray(0, size);
}

/** Makes a reader of a line's cell; the grid may ask for a line that is not there any more. */
function valueAt(read) {
  return ({ node }) => (node.rowIndex in lines ? read(lines[node.rowIndex]) : null);
}

function gridColumns() {
  const sorts = state.sort.split(":");
  const found = META.columns.map((column) => ({
    colId: column.name, headerName: column.title, headerTooltip: column.about,
    valueGetter: valueAt((row) => gridValue(column, row)),
    ...(column.kind === "number"
      ? { filter: "agNumberColumnFilter", width: NUMBER_WIDTH, type: "rightAligned", valueFormatter: (cell) => (cell.value === null ? "" : shown(cell.value)) }
      : { filter: "agTextColumnFilter", width: column.name === "prompt" ? 340 : 140 }),
    ...(column.name === "prompt" ? { flex: 1, minWidth: isNarrow() ? 150 : 260 } : {}),
    ...(column.name === "id" ? { width: 130 } : {}),
    hide: isHidden(column), sort: column.name === sorts[0] ? sorts[1] : null,
  }));
  // The id is what a link holds, and the last thing to read.
  found.push(found.shift());
  found.splice(1, 0, {
    colId: "hits", headerName: "hits", headerTooltip: "Where the search found its words, and how often.", width: 210, sortable: false, hide: !state.query,
    valueGetter: valueAt(hitsOf),
  });
  return found;
}

function isNarrow() {
  return window.innerWidth < 700;
}

/** Says whether a view has no use for a column: it is the same in every row, or few ask for it. */
function isHidden({ name, kind, values }) {
  const dropped = state.view === "dropped";
  if (name === "outcome") return META.kind !== "evaluation" && !dropped;
  if (isNarrow() ? !NARROW.has(name) : dropped && /margin|_chosen$|_rejected$|split|flags/.test(name)) return true;
  return HIDDEN.has(name) || (kind === "category" && values.length < 2 && name !== "change");
}

function gridValue(column, row) {
  const value = valueOf(column.name, row);
  return column.kind === "flags" ? value.join(", ") : value;
}

function gridTheme() {
  return agGrid.themeQuartz.withParams({
    accentColor: "var(--accent)", backgroundColor: "var(--surface)", foregroundColor: "var(--ink)", borderColor: "var(--line)",
    headerBackgroundColor: "var(--surface-2)", headerTextColor: "var(--soft)", rowHoverColor: "var(--hover)", selectedRowBackgroundColor: "var(--selected)",
    chromeBackgroundColor: "var(--surface-2)", browserColorScheme: "inherit", fontFamily: "inherit", fontSize: 13, headerFontSize: 12,
    spacing: 6, wrapperBorderRadius: 8, iconColor: "var(--soft)", menuBackgroundColor: "var(--surface)", inputBackgroundColor: "var(--surface)",
    columnBorder: false,
  });
}

function makeGrid() {
  need("ag-grid-community");
  grid = agGrid.createGrid(byId("grid"), {
    theme: gridTheme(),
    columnDefs: gridColumns(),
    defaultColDef: { sortable: true, resizable: true, suppressHeaderMenuButton: true },
    rowModelType: "infinite", maxBlocksInCache: 4,
    datasource: { getRows: () => {} },
    rowHeight: 30, headerHeight: 34, animateRows: false, suppressColumnMoveAnimation: true, suppressMovableColumns: isNarrow(),
    suppressAnimationFrame: true, alwaysShowVerticalScroll: true,
    onFilterChanged: () => showRows(),
    onSortChanged: () => update({ sort: sortWords() }),
    processRowPostCreate: (row) => markLine(row.eRow, row.rowIndex),
    overlayNoRowsTemplate: "<span>Nothing passes these filters.</span>",
    ariaLabel: "List of pairs",
  });
  listenToGrid();
}

/** Opens the pair of a line that is clicked or takes the focus; Enter goes on to the pair. The grid's own events come a turn later. */
function listenToGrid() {
  const lineAt = (event) => Number(event.target.closest(".ag-row")?.getAttribute("row-index") ?? -1);
  for (const name of ["click", "focusin"]) byId("grid").addEventListener(name, (event) => openDisplayed(lineAt(event)));
  byId("grid").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || lineAt(event) < 0) return;
    openDisplayed(lineAt(event));
    byId("detail").focus();
  });
}

/** Writes the order of the list for the address: `margin:asc`. */
function sortWords() {
  const sorted = grid.getColumnState().find((column) => column.sort);
  return sorted ? `${sorted.colId}:${sorted.sort}` : "";
}

function applySort() {
  const [colId, sort] = state.sort.split(":");
  if (sortWords() !== state.sort) grid.applyColumnState({ state: colId ? [{ colId, sort }] : [], defaultState: { sort: null } });
}

/** @type {Map<string, Float64Array>} Column → a number a row that sorts like its values; NaN where there is none. */
const ranks = new Map();

function ranksOf(column) {
  if (column.kind === "number") return columns[column.name];
  if (!ranks.has(column.name)) {
    const names = Array.from({ length: META.rows }, (_, row) => gridValue(column, row) || "");
    const places = new Map([...new Set(names)].sort().map((name, place) => [name, name ? place : NaN]));
    ranks.set(column.name, Float64Array.from(names, (name) => places.get(name)));
  }
  return ranks.get(column.name);
}

/** Sorts rows by the column of the state; equal rows keep their order, those without a value are last. @param {Uint32Array} rows */
function sorted(rows) {
  const [name, direction] = state.sort.split(":");
  if (!described[name]) return rows;
  const sign = direction === "desc" ? -1 : 1;
  const keys = ranksOf(described[name]).map((rank) => (Number.isNaN(rank) ? Infinity : sign * rank));
  return rows.sort((one, other) => keys[one] - keys[other] || one - other);
}

/** Shows the rows of a view. */
function showView() {
  viewRows = rowsOfView(state.view);
  const name = state.view === "dropped" ? "Dropped prompts" : "Pairs";
  byId("list-title").textContent = name;
  byId("list").setAttribute("aria-label", name);
  if (grid) grid.applyColumnState({ state: META.columns.map((column) => ({ colId: column.name, hide: isHidden(column) })) });
  showRows();
}

/** Says whether order or filters of the list go by texts. */
function asksTexts() {
  return [state.sort.split(":")[0], ...Object.keys(grid?.getFilterModel() || {})].some((name) => described[name]?.kind === "text");
}

/** Lets the list follow filters, hits and order. */
function showRows() {
  if (state.view === "overview") return;
  if (asksTexts() && !isWhole()) return whenWhole(showRows);
  const tests = [...filterTests(), ...Object.entries(grid?.getFilterModel() || {}).map(([name, model]) => columnTest(described[name], model))];
  if (hits) tests.unshift((row) => hits[row] === 1);
  lines = sorted(tests.reduce((rows, test) => rows.filter(test), viewRows.slice()));
  if (!grid) makeGrid();
  drawRows();
  showCounts();
}

/** Lets the grid ask for every cell again; the focus stays at the pair that is open. */
function drawRows() {
  const focused = byId("grid").querySelector(".ag-row:focus-within");
  if (focused) grid.clearFocusedCell();
  grid.setGridOption("infiniteInitialRowCount", lines.length);
  grid.setRowCount(lines.length, true);
  if (grid.getColumn("hits").isVisible() !== Boolean(state.query)) grid.setColumnsVisible(["hits"], Boolean(state.query));
  if (focused && lines.length) focusGrid();
}

let redrawTimer = 0;

/** Counts what the list shows, and draws the plots anew. */
function showCounts() {
  const unit = state.view === "dropped" ? "dropped prompts" : META.kind === "evaluation" ? "instructions" : "pairs";
  byId("count").textContent = lines.length === viewRows.length ? `${shown(lines.length)} ${unit}` : `${shown(lines.length)} of ${shown(viewRows.length)} ${unit}`;
  const place = document.getElementById("place");
  if (place) place.textContent = placeWords();
  drawChips();
  clearTimeout(redrawTimer);
  // A search that goes on has the processor for itself.
  if (!searching) redrawTimer = setTimeout(showPlots, 60);
}

function drawChips() {
  const chips = [...state.filters].map(([name, filter]) => chip(`${described[name].title}: ${filterWords(filter)}`, () => filterBy(name, null)));
  if (state.query) chips.push(chip(`text: ${short(state.query, 40)}`, () => { byId("search").value = ""; update({ query: "" }); }));
  for (const name of Object.keys(grid.getFilterModel())) {
    chips.push(chip(`column filter: ${described[name].title}`, () => { grid.setColumnFilterModel(name, null).then(() => grid.onFilterChanged()); }));
  }
  fill(byId("chips"), chips.map((each) => h("li", {}, each)));
}

function chip(text, onclick) {
  return h("button", { type: "button", class: "chip", "aria-label": `Remove the filter ${text}`, onclick }, h("span", { text }), h("span", { "aria-hidden": "true", text: "×" }));
}

function filterWords(filter) {
  if ("values" in filter) return filter.values.map((value) => short(value, 40)).join(", ");
  if (filter.low === -Infinity) return `below ${shown(filter.high)}`;
  return filter.high === Infinity ? `${shown(filter.low)} or more` : `${shown(filter.low)} to ${shown(filter.high)}`;
}

/** Opens the pair of a line of the list. @param {number} line */
function openDisplayed(line) {
  if (!(line in lines)) return;
  const row = lines[line];
  whenWhole(() => {
    if (keyOf(row) !== state.pair) update({ pair: keyOf(row) });
  });
}

/** Gives the row of the pair that is open, or -1. */
function openRow() {
  return state.pair === null ? -1 : keys().rows.get(state.pair) ?? -1;
}

/** Gives its line, or -1. */
function openLine() {
  return lines.indexOf(openRow());
}

/** Opens the next pair of the list. @param {number} step */
function move(step) {
  openDisplayed(Math.min(lines.length - 1, Math.max(0, openLine() < 0 ? 0 : openLine() + step)));
}

/** Shows which line is open. */
function markOpen() {
  const line = openLine();
  if (line >= 0) grid.ensureIndexVisible(line);
  for (const each of byId("grid").querySelectorAll(".ag-row")) markLine(each, Number(each.getAttribute("row-index")));
}

function markLine(element, line) {
  const open = lines[line] === openRow();
  element.classList.toggle("ag-row-selected", open);
  element.setAttribute("aria-selected", String(open));
}
