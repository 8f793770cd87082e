// One pair: the conversation, both answers or their differences, why this one won, and every other answer.

const LONG_TURN = 1600;
const KEY_WORDS = {
  highest: "the highest score", lowest: "the lowest score", shortest: "being the shortest", longest: "being the longest",
  nearest_length: "the length nearest to the chosen one's", order: "the total order of source and number", random: "a seeded draw", first: "coming first",
};
let detailRun = 0;

/** Shows the pair that the state names. */
async function drawDetail() {
  const run = ++detailRun;
  const began = performance.now();
  const pane = byId("detail");
  document.body.classList.toggle("pair-open", state.pair !== null);
  if (state.pair === null) return fill(pane, h("p", { class: "empty", text: "Pick a line of the list, or press j." }));
  const row = openRow();
  if (row < 0) return fill(pane, backButton(), h("p", { class: "empty", text: `This page has no ${state.pair}: it may show a sample.` }));
  try {
    const pair = await readRow(row);
    const before = await rowBefore(row, pair);
    if (run !== detailRun) return;
    fill(pane, ...detailParts(pair, before));
    pane.scrollTop = 0;
    performance.measure("pair", { start: began });
  } catch (error) {
    if (run === detailRun) fill(pane, backButton(), h("p", { class: "empty", role: "alert", text: String(error.message || error) }));
  }
  document.documentElement.dataset.pair = state.pair || "";
}

/** Reads the compared dataset's pair of the same prompt, where it differs. */
async function rowBefore(row, pair) {
  const change = valueOf("change", row);
  if (!change || ["same", "gained", "lost"].includes(change)) return null;
  const code = described.change.values.indexOf("before") + 1;
  for (let other = row + 1; other < META.rows; other++) {
    if (columns.change[other] === code && columns.id[other] === pair.id) {
      const found = await readRow(other);
      if (found.number === pair.number) return found;
    }
  }
  return null;
}

function backButton() {
  return h("button", { type: "button", class: "quiet back", onclick: closePair, text: "← List" });
}

function closePair() {
  update({ pair: null });
  byId("main").focus();
}

function detailParts(pair, before) {
  const [chosen, rejected] = [pair.answers[pair.chosen], pair.answers[pair.rejected]];
  return [
    h("div", { class: "detail-head" }, backButton(),
      h("h2", {}, h("span", { class: "soft", text: pair.outcome === "pair" || META.kind === "evaluation" ? "Pair " : "Prompt " }), h("code", { text: short(pair.id, 16), title: pair.id })),
      h("span", { class: "soft grow", id: "place", text: placeWords() }),
      keyButton("Markdown", "m", "Texts as Markdown", state.markdown),
      chosen && rejected ? keyButton("Diff", "d", "Word by word", state.diff) : null,
      keyButton("↑", "k", "Previous pair"),
      keyButton("↓", "j", "Next pair")),
    whyParts(pair, chosen, rejected),
    pair.turns.length ? h("section", { "aria-label": "Conversation" }, h("h3", { text: "Conversation" }), pair.turns.map(turnPart)) : null,
    ...sidesParts(pair, chosen, rejected),
    before && beforePart(before),
    candidatesPart(pair),
    matchesPart(pair),
  ];
}

/** Says which of the list's lines is open. */
function placeWords() {
  const line = openLine();
  return line < 0 ? "not listed" : `${shown(line + 1)} of ${shown(lines.length)}`;
}

/** Makes a button that does what a key does; one that switches something says whether it is on. */
function keyButton(text, key, label, pressed) {
  return h("button", { type: "button", class: "quiet", "aria-label": `${label} (${key})`, "aria-pressed": pressed?.toString(), onclick: ACTIONS[key] },
    text, h("kbd", { "aria-hidden": "true", text: key }));
}

/** Writes a text with the hits of the search marked. @param {string} text */
function withHits(text) {
  const wanted = lower(state.query);
  if (!wanted) return [text];
  const found = [];
  const all = lower(text);
  let at = 0;
  for (let hit = all.indexOf(wanted); hit >= 0 && found.length < 2000; hit = all.indexOf(wanted, at)) {
    found.push(text.slice(at, hit), h("mark", { text: text.slice(hit, hit + wanted.length) }));
    at = hit + wanted.length;
  }
  return [...found, text.slice(at)];
}

function turnPart(turn) {
  const long = turn.text.length > LONG_TURN && !lower(turn.text).includes(lower(state.query) || "\0");
  const body = textPart(long ? turn.text.slice(0, LONG_TURN) : turn.text);
  const more = long && h("button", {
    type: "button", class: "link", text: `Show all ${shown(turn.text.length)} characters`,
    onclick: () => { body.replaceWith(textPart(turn.text)); more.remove(); },
  });
  return h("div", { class: `turn ${["user", "assistant", "system"].includes(turn.role) ? turn.role : ""}` }, h("span", { class: "role", text: turn.role || "text" }), body, more);
}

/** Explains in words why this answer won. */
function whyParts(pair, chosen, rejected) {
  if (pair.outcome !== "pair" && META.kind !== "evaluation") {
    return h("div", { class: "why lost" }, h("strong", { text: pair.outcome.replaceAll("_", " ") }), pair.stage ? ` at the stage ${pair.stage}` : "", pair.detail ? h("p", { class: "text", text: pair.detail }) : null);
  }
  const said = META.kind === "evaluation" ? evaluationWords(pair) : whyWords(pair, chosen, rejected);
  const flags = valueOf("flags", pair.row) || NOTHING;
  if (!said.length && !flags.length) return null;
  return h("div", { class: "why" }, h("strong", { text: "Why this one" }),
    META.rule && h("p", { class: "soft", text: META.rule }),
    h("ul", {}, said.map((text) => h("li", { text }))),
    flags.length > 0 && h("p", {}, flags.map((flag) => h("span", { class: "flag", text: flag }))));
}

function evaluationWords(pair) {
  const preference = valueOf("preference", pair.row);
  return [`Outcome: ${pair.outcome}.`, preference === null ? "No preference was given." : `Preference ${shown(preference)}, from 1 (${META.sides[1]}) to 2 (${META.sides[0]}).`];
}

function whyWords(pair, chosen, rejected) {
  const why = pair.why;
  const said = [];
  if (why.n_candidates) said.push(`${shown(why.n_eligible ?? why.n_candidates)} of ${shown(why.n_candidates)} answers could be picked.`);
  for (const [side, answer] of [["chosen", chosen], ["rejected", rejected]]) {
    const tied = why[`n_tied_${side}`];
    const key = why[`decided_${side}`];
    if (!tied && !key) continue;
    const share = tied > 1 ? `${shown(tied)} answers tied on the first key; ` : "";
    const score = valueOf(`score_${side}`, pair.row);
    said.push(`${side === "chosen" ? "Chosen" : "Rejected"}${score === null ? "" : ` with ${shown(score)}`}: ${share}${Object.hasOwn(KEY_WORDS, key) ? KEY_WORDS[key] : `“${key}”`} decided.`);
  }
  const margin = valueOf("margin", pair.row);
  if (margin !== null) said.push(`Margin ${shown(margin)}; length difference ${shown(valueOf("length_difference", pair.row))}.`);
  return said;
}

function sidesParts(pair, chosen, rejected) {
  if (!chosen && !rejected) return [];
  if (state.diff && chosen && rejected) return [diffPart(chosen, rejected)];
  return [h("div", { class: "sides" }, answerPart(chosen, META.sides[0], "chosen"), answerPart(rejected, META.sides[1], "rejected"))];
}

function answerFacts(answer) {
  const facts = [
    answer.score !== undefined && answer.score !== null ? `score ${shown(answer.score)}` : "", answer.length !== undefined ? `length ${shown(answer.length)}` : "",
    [answer.source, typeof answer.index === "number" ? answer.index : ""].filter((part) => part !== "" && part !== undefined && part !== null).join(" "),
    answer.model && answer.model !== answer.source ? answer.model : "", answer.finish ? `ended: ${answer.finish}` : "",
    answer.seed ? `seed ${answer.seed}` : "", answer.note ? answer.note.replaceAll("_", " ") : "",
  ];
  return facts.filter(Boolean).join(" · ");
}

function answerPart(answer, name, kind) {
  if (!answer) return null;
  return h("section", { class: `side ${kind}`, "aria-label": name }, h("h3", { text: name }), h("p", { class: "soft", text: answerFacts(answer) }),
    answerText(answer), extraParts(answer));
}

function answerText(answer) {
  return answer.missing ? h("div", { class: "text" }, h("em", { text: "no text" })) : textPart(answer.text);
}

function extraParts(answer) {
  return [
    answer.words && h("div", { class: "judge" }, h("strong", { text: "The judge " }), h("span", { class: "text" }, withHits(answer.words))),
    answer.reasoning && h("details", {}, h("summary", { text: "Reasoning before the answer" }), h("div", { class: "text" }, withHits(answer.reasoning))),
  ];
}

function diffPart(chosen, rejected) {
  const pieces = diffTexts(rejected.text, chosen.text);
  const tags = { same: "span", del: "del", ins: "ins" };
  return h("section", { class: "diff", "aria-label": "Word by word" },
    h("h3", { text: "Word by word" }),
    h("p", { class: "soft" }, h("del", { text: `only in ${META.sides[1]}` }), " ", h("ins", { text: `only in ${META.sides[0]}` })),
    h("div", { class: "text" }, pieces.map((piece) => h(tags[piece.kind], { text: piece.text }))));
}

/** Shows what the compared dataset has in place of this pair. */
function beforePart(before) {
  const [chosen, rejected] = [before.answers[before.chosen], before.answers[before.rejected]];
  return h("details", { class: "before", open: true }, h("summary", { text: "In the compared dataset" }),
    before.outcome === "pair" ? null : h("p", { text: `${before.outcome.replaceAll("_", " ")} ${before.detail || ""}` }),
    h("div", { class: "sides" }, answerPart(chosen, META.sides[0], "chosen"), answerPart(rejected, META.sides[1], "rejected")));
}

/** Lists every answer, best first; its text opens below it. */
function candidatesPart(pair) {
  if (pair.answers.length < 2 || (META.kind === "table" && pair.answers.length <= 2) || META.kind === "evaluation") return null;
  const ranked = pair.answers.map((answer, place) => ({ answer, place })).sort((a, b) => (b.answer.score ?? -Infinity) - (a.answer.score ?? -Infinity) || a.place - b.place);
  return h("section", { "aria-label": "All answers" }, h("h3", { text: `All ${pair.answers.length} answers, best first` }),
    ranked.map(({ answer, place }, rank) => {
      const side = place === pair.chosen ? "chosen" : place === pair.rejected ? "rejected" : "";
      return h("details", { class: `candidate ${side}` },
        h("summary", {}, h("span", { class: "rank", text: answer.score === undefined ? "–" : String(rank + 1) }), side && h("span", { class: `badge ${side}`, text: side }), " ",
          h("span", { text: answerFacts(answer) }), h("span", { class: "soft peek", text: short(answer.text.replace(/\s+/g, " ").slice(0, 200), 90) })),
        answerText(answer), extraParts(answer), pinsPart(answer));
    }));
}

function pinsPart(answer) {
  const pins = answer.source && Object.hasOwn(META.models, answer.source) ? META.models[answer.source] : "";
  return pins && h("p", { class: "soft pins" }, h("span", { text: "pinned: " }), pins);
}

function matchesPart(pair) {
  if (!pair.matches.length) return null;
  const name = (place) => `${pair.answers[place].source ?? ""} ${pair.answers[place].index ?? ""}`.trim();
  const rows = pair.matches.map(([first, second, probability, undecided, text]) => [name(first), name(second), probability === null ? `undecided: ${undecided}` : shown(probability), text || ""]);
  return h("details", { class: "matches" }, h("summary", { text: `${shown(rows.length)} comparisons of two answers` }),
    dataTable("Probability that the first answer beats the second", ["first", "second", "probability", "the judge's words"], rows));
}
