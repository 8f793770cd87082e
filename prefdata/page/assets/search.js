// Searches all texts. The first search unpacks them part by part; their lower-case forms stay in memory for the next.

const FIELDS = ["prompt", META.sides[0], META.sides[1], "other answers", "judge and reasoning"];

/** @typedef {{texts: string[], heads: any[]}} Searched */
/** @type {Array<Searched | undefined>} */
const searched = [];
let searchRun = 0;

/** Puts a text into lower case without a change of positions. @param {string} text */
function lower(text) {
  const all = text.toLowerCase();
  if (all.length === text.length) return all;
  return Array.from(text, (letter) => (letter.toLowerCase().length === letter.length ? letter.toLowerCase() : letter)).join("");
}

/** Unpacks a part for searching. @param {number} number @returns {Promise<Searched>} */
async function searchable(number) {
  const found = searched[number];
  if (found) return found;
  const from = await readPart(number);
  const texts = from.heads.map((_, place) => lower(rowTexts(from, place)));
  const heads = from.heads.map((head) => ({ n: head.n, u: (head.u || []).length, a: (head.a || []).map(extraTexts), c: head.c, j: head.j }));
  return (searched[number] = { texts, heads });
}

function extraTexts(answer) {
  return (answer.w ? 1 : 0) + (answer.r ? 1 : 0);
}

/**
 * Finds the rows whose texts hold a query.
 * @param {string} query
 * @param {(hits: Uint8Array, count: number, done: number) => void} report called while it goes on
 * @returns {Promise<boolean>} false where a later search took over
 */
async function searchTexts(query, report) {
  const run = ++searchRun;
  const wanted = lower(query);
  const hits = new Uint8Array(META.rows);
  let count = 0;
  let last = performance.now();
  /** @type {Promise<Searched>[]} */
  const ahead = [];
  const parts = META.chunks.length;
  for (let number = 0; number < parts; number++) {
    while (ahead.length < 3 && number + ahead.length < parts) ahead.push(searchable(number + ahead.length));
    const found = searched[number] ? (ahead.shift(), searched[number]) : await ahead.shift();
    if (run !== searchRun) return false;
    const start = META.chunks[number];
    for (let place = 0; place < found.texts.length; place++) {
      if (found.texts[place].includes(wanted)) {
        hits[start + place] = 1;
        count++;
      }
    }
    if (performance.now() - last > 250) {
      report(hits, count, (number + 1) / parts);
      await new Promise((done) => setTimeout(done));
      if (run !== searchRun) return false;
      last = performance.now();
    }
  }
  report(hits, count, 1);
  return true;
}

/** Stops the search that is under way. */
function stopSearch() {
  searchRun++;
}

/** Counts the hits of a row in each field. @param {number} row @param {string} query */
function hitsOf(row, query) {
  const number = partOf(row);
  const found = searched[number];
  if (!found || !query) return "";
  const place = row - META.chunks[number];
  const counts = countHits(found.texts[place], lower(query), fieldEnds(found.heads[place]));
  return FIELDS.map((field, at) => (counts[at] ? `${field} ${counts[at]}` : "")).filter(Boolean).join(" · ");
}

/** Gives the end of each text of a row, and the field that it belongs to. */
function fieldEnds(head) {
  const fields = Array(head.u).fill(0);
  head.a.forEach((extra, place) => {
    fields.push(place === head.c ? 1 : place === head.j ? 2 : 3, ...Array(extra).fill(4));
  });
  let at = 0;
  return fields.map((field, text) => ({ field, end: (at += head.n[text] + 1) }));
}

function countHits(text, wanted, ends) {
  const counts = [0, 0, 0, 0, 0];
  let now = 0;
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
    while (now < ends.length - 1 && at >= ends[now].end) now++;
    counts[ends[now].field]++;
  }
  return counts;
}
