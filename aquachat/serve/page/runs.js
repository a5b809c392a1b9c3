// The runs panel: the curves of a stage, followed while it trains.

import { getJson } from "./api.js";
import { byId, make, notify } from "./dom.js";
import { plotCard } from "./plot.js";

const EVERY_MS = 2000;
const FIRST = ["train/loss", "val/loss", "val/bpb", "rl/mean_reward", "rl/acc", "eval/accuracy", "eval/aqua_accuracy"];

let runs = [];
let shown = { run: "", stage: "" };
let file = { next: 0, version: "" };
let series = new Map();
let lastStep = 0;
let timer = 0;
let isVisible = false;
let isReading = false;

export function startRuns() {
  byId("run-choice").addEventListener("submit", (event) => event.preventDefault());
  byId("run").addEventListener("change", () => { fillStages(); begin(); });
  byId("stage").addEventListener("change", begin);
  byId("smooth").addEventListener("change", render);
  byId("live").addEventListener("change", schedule);
}

export async function showRuns() {
  isVisible = true;
  await refreshRuns();
  schedule();
}

export function hideRuns() {
  isVisible = false;
  clearTimeout(timer);
}

async function refreshRuns() {
  try {
    ({ runs } = await getJson("/api/runs"));
  } catch (error) {
    notify(error.message);
    return;
  }
  byId("runs-empty").hidden = runs.length > 0;
  byId("run-choice").hidden = !runs.length;
  if (!runs.length) return;
  const before = byId("run").value;
  byId("run").replaceChildren(...runs.map(({ run }) => make("option", { value: run }, run)));
  if (runs.some(({ run }) => run === before)) byId("run").value = before;
  fillStages();
  if (byId("run").value !== shown.run || byId("stage").value !== shown.stage) await begin();
}

function fillStages() {
  const run = runs.find((each) => each.run === byId("run").value);
  const before = byId("run").value === shown.run ? shown.stage : "";
  byId("stage").replaceChildren(...run.stages.map(({ stage }) => make("option", { value: stage }, stage)));
  const newest = run.stages.reduce((a, b) => (b.modified_s >= a.modified_s ? b : a));
  byId("stage").value = run.stages.some(({ stage }) => stage === before) ? before : newest.stage;
}

async function begin() {
  shown = { run: byId("run").value, stage: byId("stage").value };
  file = { next: 0, version: "" };
  series = new Map();
  lastStep = 0;
  await read();
  schedule();
}

function schedule() {
  clearTimeout(timer);
  if (isVisible && byId("live").checked) timer = setTimeout(async () => { await read(); schedule(); }, EVERY_MS);
}

async function read() {
  if (isReading || !shown.run) return;
  isReading = true;
  const wanted = shown;
  try {
    for (;;) {
      const query = new URLSearchParams({ after: file.next, version: file.version });
      const path = `/api/runs/${encodeURIComponent(wanted.run)}/${wanted.stage}/metrics?${query}`;
      const found = await getJson(path);
      if (wanted !== shown) break;
      if (found.restarted) series = new Map();
      found.rows.forEach(take);
      file = found;
      if (found.rows.length || found.restarted || !series.size) render();
      if (found.is_complete) break;
    }
  } catch (error) {
    notify(error.message);
  }
  isReading = false;
  if (wanted !== shown) await read();
}

function take(row) {
  lastStep = row.step;
  for (const [name, value] of Object.entries(row)) {
    if (!name.includes("/") || typeof value !== "number") continue;
    if (!series.has(name)) series.set(name, []);
    series.get(name).push([row.step, value]);
  }
}

function rank(name) {
  const place = FIRST.indexOf(name);
  return place < 0 ? FIRST.length : place;
}

function render() {
  const isSingle = (name) => Number(series.get(name).length === 1);
  const names = [...series.keys()].sort(
    (a, b) => isSingle(a) - isSingle(b) || rank(a) - rank(b) || a.localeCompare(b),
  );
  const isSmooth = byId("smooth").checked;
  byId("plots").replaceChildren(...names.map((name) => plotCard(name, series.get(name), isSmooth)));
  byId("run-state").textContent = names.length ? `step ${lastStep.toLocaleString("en")}` : "no metrics yet";
}
