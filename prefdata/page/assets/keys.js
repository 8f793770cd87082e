// Everything by keyboard.

const KEYS = [
  ["j, k", "next and previous pair"], ["/", "search in all texts"], ["d", "both sides, or their differences word by word"], ["m", "texts as they are, or as Markdown"],
  ["o", "overview"], ["l", "list of pairs"], ["x", "dropped prompts"], ["g", "into the list: arrows move, Enter opens"],
  ["p", "show or hide the plots"], ["c", "remove all filters"], ["t", "light or dark"], ["Esc", "close; leave the search"], ["?", "this help"],
];

const ACTIONS = {
  j: () => step(1), k: () => step(-1), "/": () => { goToList(); byId("search").focus(); byId("search").select(); },
  d: () => update({ diff: !state.diff }), m: () => update({ markdown: !state.markdown }), "?": openHelp, o: () => update({ view: "overview" }), l: () => update({ view: "list" }),
  x: () => { if (!byId("tab-dropped").hidden) update({ view: "dropped" }); }, g: () => { goToList(); focusGrid(); },
  p: togglePlots, c: clearFilters, t: toggleTheme, Escape: leave,
};

function goToList() {
  if (state.view === "overview") update({ view: "list" });
}

function step(by) {
  goToList();
  move(by);
}

function focusGrid() {
  const line = Math.max(0, openLine());
  grid.ensureIndexVisible(line);
  grid.setFocusedCell(line, grid.getAllDisplayedColumns()[0]);
}

function clearFilters() {
  byId("search").value = "";
  grid?.setFilterModel(null);
  update({ filters: new Map(), query: "" });
}

function leave() {
  if (state.pair !== null && window.innerWidth < 900) closePair();
}

function togglePlots() {
  const bar = byId("plots-bar");
  bar.hidden = !bar.hidden;
  const button = byId("plots-toggle");
  button.setAttribute("aria-expanded", String(!bar.hidden));
  button.textContent = bar.hidden ? "Show plots" : "Hide plots";
}

function isDark() {
  return document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function toggleTheme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  byId("theme").textContent = isDark() ? "Light" : "Dark";
}

function openHelp() {
  const dialog = /** @type {HTMLDialogElement} */ (byId("help"));
  if (dialog.open) return dialog.close();
  fill(dialog, h("h2", { id: "help-title", text: "Keys" }),
    h("dl", { class: "keys" }, KEYS.map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", { text: key })), h("dd", { text: what })))),
    h("p", { class: "soft", text: "Drag across a plot, or click a bar or a stream, and the list follows. The address holds what you see: copy it to show somebody the same." }),
    h("button", { type: "button", class: "quiet", onclick: () => dialog.close(), text: "Close" }));
  dialog.showModal();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || /** @type {HTMLDialogElement} */ (byId("help")).open) return;
  const field = event.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (field) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const action = ACTIONS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}
