// The list: AG Grid over the columns, with the filters of plots, streams and the search.

const HIDDEN = new Set(["length_difference", "decided_rejected", "n_tied_chosen", "n_tied_rejected", "n_candidates"]);
const NARROW = new Set(["prompt", "margin", "outcome", "preference", "change", "hits"]);
const NUMBER_WIDTH = 122;

/** @type {any} */
let grid = null;
/** @type {Uint8Array} Rows of the view that pass the filters. */
let mask = new Uint8Array(0);
/** @type {Uint8Array | null} Rows that the search found. */
let hits = null;

/** Gives the rows of a view. @param {string} view */
function rowsOfView(view) {
  const rows = [];
  const isBefore = described.change ? described.change.values.indexOf("before") + 1 : 0;
  const dropped = described.outcome ? described.outcome.values.map(isDropped) : [];
  for (let row = 0; row < META.rows; row++) {
    if (isBefore && columns.change[row] === isBefore) continue;
    const code = columns.outcome ? columns.outcome[row] : 0;
    if ((view === "dropped") === Boolean(code && dropped[code - 1])) rows.push(row);
  }
  return Uint32Array.from(rows);
}

function gridColumns() {
  const narrow = window.innerWidth < 700;
  const found = META.columns.map((column) => ({
    colId: column.name, headerName: column.title, headerTooltip: column.about,
    valueGetter: (cell) => gridValue(column, cell.data.r),
    ...(column.kind === "number"
      ? { filter: "agNumberColumnFilter", width: NUMBER_WIDTH, type: "rightAligned", valueFormatter: (cell) => (cell.value === null ? "" : shown(cell.value)) }
      : { filter: "agTextColumnFilter", width: column.name === "prompt" ? 340 : 140 }),
    ...(column.name === "prompt" ? { flex: 1, minWidth: narrow ? 150 : 260 } : {}),
    ...(column.name === "id" ? { width: 130 } : {}),
    hide: (narrow && !NARROW.has(column.name)) || hideColumn(column),
  }));
  // The id is what a link holds, and the last thing to read.
  found.push(found.shift());
  found.splice(1, 0, {
    colId: "hits", headerName: "hits", headerTooltip: "Where the search found its words, and how often.", width: 210, sortable: false, hide: true,
    valueGetter: (cell) => hitsOf(cell.data.r, state.query),
  });
  return found;
}

/** Says whether a column starts hidden: one that is the same in every row, or that few ask for. */
function hideColumn(column) {
  if (column.name === "outcome") return META.kind !== "evaluation";
  return HIDDEN.has(column.name) || (column.kind === "category" && column.values.length < 2 && column.name !== "change");
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
  grid = agGrid.createGrid(byId("grid"), {
    theme: gridTheme(),
    columnDefs: gridColumns(),
    defaultColDef: { sortable: true, resizable: true, suppressHeaderMenuButton: true },
    rowData: [],
    getRowId: (row) => String(row.data.r),
    rowSelection: { mode: "singleRow", checkboxes: false, enableClickSelection: true },
    rowHeight: 30, headerHeight: 34, animateRows: false, suppressColumnMoveAnimation: true, suppressMovableColumns: window.innerWidth < 700,
    isExternalFilterPresent: () => true,
    doesExternalFilterPass: (node) => mask[node.data.r] === 1,
    onFilterChanged: () => afterFilter(),
    onSortChanged: () => update({ sort: sortWords() }),
    onRowClicked: (event) => openRow(event.data.r),
    onCellKeyDown: (event) => { if (event.event.key === "Enter") openRow(event.data.r, true); },
    onCellFocused: (event) => { if (event.rowIndex !== null && byId("grid").contains(document.activeElement)) openDisplayed(event.rowIndex); },
    overlayNoRowsTemplate: "<span>Nothing passes these filters.</span>",
    ariaLabel: "List of pairs",
  });
}

/** Writes the order of the list for the address: `margin:asc`. */
function sortWords() {
  const sorted = grid.getColumnState().find((column) => column.sort);
  return sorted ? `${sorted.colId}:${sorted.sort}` : "";
}

function applySort() {
  const [colId, sort] = state.sort.split(":");
  if (sortWords() === state.sort) return;
  grid.applyColumnState({ state: colId ? [{ colId, sort }] : [], defaultState: { sort: null } });
}

let viewRows = new Uint32Array(0);

/** Shows the rows of a view. */
function showView() {
  viewRows = rowsOfView(state.view);
  const name = state.view === "dropped" ? "Dropped prompts" : "Pairs";
  byId("list-title").textContent = name;
  byId("list").setAttribute("aria-label", name);
  const dropped = state.view === "dropped";
  grid.setColumnsVisible(["outcome"].filter((column) => described[column]), dropped || META.kind === "evaluation");
  if (window.innerWidth >= 700) {
    const ofPairs = META.columns.map((column) => column.name).filter((column) => /margin|_chosen$|_rejected$|split|flags/.test(column));
    grid.setColumnsVisible(ofPairs.filter((column) => dropped || !hideColumn(described[column])), !dropped);
  }
  computeMask();
  grid.setGridOption("rowData", Array.from(viewRows, (r) => ({ r })));
}

function computeMask() {
  const test = filterTest();
  mask = new Uint8Array(META.rows);
  for (const row of viewRows) if ((!hits || hits[row]) && test(row)) mask[row] = 1;
}

/** Lets the list follow filters and hits. */
function applyFilters() {
  computeMask();
  grid.onFilterChanged();
}

let redrawTimer = 0;

/** Counts what the list shows, and draws the plots anew. */
function afterFilter() {
  const rows = [];
  grid.forEachNodeAfterFilter((node) => rows.push(node.data.r));
  const unit = state.view === "dropped" ? "dropped prompts" : META.kind === "evaluation" ? "instructions" : "pairs";
  byId("count").textContent = rows.length === viewRows.length ? `${shown(rows.length)} ${unit}` : `${shown(rows.length)} of ${shown(viewRows.length)} ${unit}`;
  drawChips();
  clearTimeout(redrawTimer);
  redrawTimer = setTimeout(() => showPlots(viewRows, Uint32Array.from(rows)), 60);
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
  const node = grid.getDisplayedRowAtIndex(line);
  if (node && keyOf(node.data.r) !== state.pair) openRow(node.data.r);
}

/** Opens a pair. @param {number} row @param {boolean} [focus] moves the focus to it */
function openRow(row, focus = false) {
  update({ pair: keyOf(row) });
  if (focus) byId("detail").focus();
}

/** Gives the line of the pair that is open, or -1. */
function openLine() {
  const row = state.pair === null ? undefined : keys().rows.get(state.pair);
  const node = row === undefined ? null : grid.getRowNode(String(row));
  return node && node.displayed && node.rowIndex !== null ? node.rowIndex : -1;
}

/** Opens the next pair of the list. @param {number} step */
function move(step) {
  const line = Math.min(grid.getDisplayedRowCount() - 1, Math.max(0, openLine() < 0 ? 0 : openLine() + step));
  openDisplayed(line);
}

/** Shows which line is open. */
function markOpen() {
  const line = openLine();
  grid.deselectAll();
  if (line < 0) return;
  grid.getDisplayedRowAtIndex(line).setSelected(true);
  grid.ensureIndexVisible(line);
}
