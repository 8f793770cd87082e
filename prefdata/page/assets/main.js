// Starts the page: the list first, then what takes longer.

let searchTimer = 0;

/** Searches for the query of the state, and lets the list follow while hits come. */
async function runSearch() {
  const query = state.query;
  const status = byId("search-state");
  document.documentElement.dataset.search = "";
  stopSearch();
  searching = Boolean(query);
  if (!query) {
    hits = null;
    status.textContent = "";
    return showRows();
  }
  try {
    const ended = await searchTexts(query, (found, count, done) => {
      hits = found;
      searching = done < 1;
      status.textContent = done < 1 ? `${shown(count)} so far, ${Math.floor(100 * done)} %` : `${shown(count)} found`;
      showRows();
    });
    if (!ended) return;
    document.documentElement.dataset.search = query;
  } catch (error) {
    searching = false;
    status.textContent = String(error.message || error);
  }
}

/** Lets the page follow the state. @param {Set<string>} changed */
function follow(changed) {
  if (changed.has("view")) drawView();
  if (changed.has("query")) runSearch();
  else if ((changed.has("filters") || changed.has("sort")) && !changed.has("view")) showRows();
  if (changed.has("sort") && grid) applySort();
  if (changed.has("pair") || changed.has("diff") || changed.has("markdown") || (changed.has("query") && state.pair !== null)) {
    markOpen();
    drawDetail();
  }
}

function drawView() {
  const list = state.view !== "overview";
  byId("overview").hidden = list;
  byId("list").hidden = !list;
  for (const name of ["overview", "list", "dropped"]) byId(`tab-${name}`).setAttribute("aria-current", state.view === name ? "page" : "false");
  if (!list) {
    if (!byId("overview").childElementCount) drawOverview();
    return;
  }
  showView();
  if (byId("detail").childElementCount === 0) drawDetail();
  markOpen();
}

function listen() {
  for (const name of ["overview", "list", "dropped"]) {
    byId(`tab-${name}`).addEventListener("click", () => update({ view: name, filters: name === state.view ? state.filters : new Map() }));
  }
  byId("search").addEventListener("input", () => {
    clearTimeout(searchTimer);
    searchTimer = setTimeout(submitSearch, 350);
  });
  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(searchTimer);
    submitSearch();
  });
  byId("theme").addEventListener("click", toggleTheme);
  byId("help-open").addEventListener("click", openHelp);
  byId("plots-toggle").addEventListener("click", togglePlots);
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", () => whenWhole(() => update(addressState())));
}

function submitSearch() {
  const query = byId("search").value.trim();
  update({ query, view: query && state.view === "overview" ? "list" : state.view });
}

async function start() {
  byId("name").textContent = META.title;
  byId("theme").textContent = isDark() ? "Light" : "Dark";
  await readColumns();
  if (META.kind === "evaluation") byId("tab-list").textContent = "Answers";
  byId("tab-dropped").hidden = META.kind === "evaluation" || rowsOfView("dropped").length === 0;
  Object.assign(state, addressState());
  if (state.pair !== null || asksTexts()) await readRest();
  byId("search").value = state.query;
  listeners.push(follow);
  listen();
  drawView();
  if (state.query) runSearch();
  document.documentElement.dataset.state = "ready";
  performance.mark("ready");
  await readRest();
  grid?.refreshCells({ force: true });
  performance.mark("whole");
}

start().catch((error) => {
  fill(byId("main"), h("p", { class: "empty", role: "alert", text: `This page could not be read: ${error.message || error}` }));
  throw error;
});
