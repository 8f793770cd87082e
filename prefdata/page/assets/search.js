// Searches all texts in threads of their own. The first search hands them the parts; the next ones find them there.

const FIELDS = ["prompt", META.sides[0], META.sides[1], "other answers", "judge and reasoning"];
const MOST_THREADS = 4;

/** @typedef {Worker & {waiting: Array<(reply: {found?: any, error?: string}) => void>}} Thread */
/** @type {Thread[]} */
let threads = [];
/** @type {Set<number>} Parts that a thread has. */
const handed = new Set();
let searchRun = 0;
/** The last search that came to its end. */
let ended = { wanted: "", hits: new Uint8Array(0) };

function startThreads() {
  const code = [inflate, openPart, rowTexts, lower, fieldsOf, countIn, searchWorker].map(String).join("\n");
  const address = URL.createObjectURL(new Blob([`"use strict";\n${code}\nsearchWorker();`]));
  threads = Array.from({ length: Math.min(MOST_THREADS, navigator.hardwareConcurrency || 2) }, () => {
    const thread = /** @type {Thread} */ (Object.assign(new Worker(address), { waiting: [] }));
    thread.addEventListener("message", ({ data }) => thread.waiting.shift()?.(data));
    return thread;
  });
}

/** Asks the thread of a part, which answers in the order of the questions. @param {number} number @param {object} what */
async function ask(number, what) {
  if (!threads.length) startThreads();
  const bytes = handed.has(number) ? null : await partBytes(number);
  handed.add(number);
  const thread = threads[number % threads.length];
  const reply = await new Promise((done) => {
    thread.waiting.push(done);
    thread.postMessage({ number, bytes, ...what }, bytes ? [bytes.buffer] : []);
  });
  if (reply.error) throw new Error(reply.error);
  return reply.found;
}

/**
 * Finds the rows whose texts hold a query; one that makes the last one longer is looked for where that was found.
 * @param {string} query
 * @param {(hits: Uint8Array, count: number, done: number) => void} report called while it goes on
 * @returns {Promise<boolean>} false where a later search took over
 */
async function searchTexts(query, report) {
  const run = ++searchRun;
  const wanted = lower(query);
  const hits = new Uint8Array(META.rows);
  const narrows = ended.wanted && wanted.includes(ended.wanted);
  const mayHold = (number) => !narrows || ended.hits.subarray(META.chunks[number], META.chunks[number + 1]).includes(1);
  const parts = [...META.chunks.keys()].filter(mayHold);
  let [next, count, last] = [0, 0, performance.now()];
  counted.clear();
  const searchNext = async () => {
    while (next < parts.length) {
      const number = parts[next++];
      const places = await ask(number, { wanted });
      if (run !== searchRun) return;
      for (const place of places) hits[META.chunks[number] + place] = 1;
      count += places.length;
      if (performance.now() - last > 250) {
        report(hits, count, next / parts.length);
        last = performance.now();
      }
    }
  };
  await Promise.all(Array.from({ length: 2 * MOST_THREADS }, searchNext));
  if (run !== searchRun) return false;
  ended = { wanted, hits };
  report(hits, count, 1);
  return true;
}

/** Stops the search that is under way. */
function stopSearch() {
  searchRun++;
}

/** @type {Map<number, string>} Row → what was found in it, for the rows that were on the screen. */
const counted = new Map();
let counting = 0;

/** Says how often a row has the words of the search in each field, once its thread has counted them. @param {number} row */
function hitsOf(row) {
  if (state.query && !counted.has(row)) countHits(row);
  return counted.get(row) ?? "";
}

async function countHits(row) {
  const [run, number] = [searchRun, partOf(row)];
  counted.set(row, "");
  counting++;
  const counts = await ask(number, { wanted: lower(state.query), count: row - META.chunks[number] }).finally(() => counting--);
  if (run !== searchRun) return;
  counted.set(row, FIELDS.map((field, at) => (counts[at] ? `${field} ${counts[at]}` : "")).filter(Boolean).join(" · "));
  if (!counting) grid.refreshCells({ columns: ["hits"] });
}
