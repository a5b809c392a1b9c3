// The AQuA panel: a question, the live probability of each letter, the rationale and the grade.

import { getJson, postEvents } from "./api.js";
import { announce, byId, make, notify, ReplyView } from "./dom.js";
import { drawPlot } from "./plot.js";

let problem = null;
let running = null;
let history = [];
let isLoaded = false;

export function startAqua() {
  byId("draw").addEventListener("submit", (event) => {
    event.preventDefault();
    draw();
  });
  byId("attempt").addEventListener("click", attempt);
  byId("aqua-stop").addEventListener("click", () => running?.abort());
}

/** Called when the panel is shown. */
export async function showAqua() {
  if (isLoaded) return;
  try {
    const { sources } = await getJson("/api/problems/sources");
    byId("source").replaceChildren(...sources.map(({ source }) => make("option", { value: source }, sourceName(source))));
    isLoaded = true;
  } catch (error) {
    notify(error.message);
  }
}

function sourceName(source) {
  const [task, split] = source.split("/");
  return `${task === "aqua" ? "AQuA-RAT" : "synthetic"}, ${split.replaceAll("_", " ")}`;
}

async function draw() {
  running?.abort();
  const query = new URLSearchParams({ source: byId("source").value });
  const number = byId("number").value.trim();
  if (number) query.set("number", number);
  try {
    problem = await getJson(`/api/problems?${query}`);
  } catch (error) {
    notify(error.message);
    return;
  }
  showProblem();
  announce(`${problem.question} Options: ${problem.options.map(({ letter, text }) => `${letter}, ${text}`).join("; ")}`);
}

function showProblem() {
  byId("aqua-empty").hidden = true;
  byId("aqua-body").hidden = false;
  byId("attempt").disabled = false;
  byId("problem-heading").textContent = `${sourceName(problem.source)}, question ${problem.number}`;
  byId("problem-question").textContent = problem.question;
  byId("options").replaceChildren(...problem.options.map(({ letter, text }) => make("li", { "data-letter": letter },
    make("span", { class: "letter" }, letter),
    make("div", { class: "track" },
      make("div", { class: "fill" }),
      make("span", { class: "text" }, text, make("span", { class: "mark" }))),
    make("span", { class: "share" }, ""))));
  byId("letters-plot").replaceChildren();
  byId("rationale").replaceChildren();
  byId("grade").textContent = "";
  byId("grade").className = "grade";
  byId("gold").hidden = true;
}

async function attempt() {
  if (!problem || running) return;
  showProblem();
  history = [];
  running = new AbortController();
  const hadFocus = document.activeElement === byId("attempt");
  setRunning(true);
  if (hadFocus) byId("aqua-stop").focus();
  const view = new ReplyView(byId("rationale"));
  byId("rationale").classList.add("writing");
  const body = { source: problem.source, number: problem.number, temperature: byId("aqua-temperature").valueAsNumber || 0 };
  try {
    for await (const { name, data } of postEvents("/api/attempts", body, running.signal)) {
      if (name === "letters") showLetters(data);
      else if (name === "pieces") data.parts.forEach((piece) => view.push(piece));
      else if (name === "grade") showGrade(data);
    }
  } catch (error) {
    if (error.name === "AbortError") byId("grade").textContent = "stopped";
    else notify(error.message);
  }
  byId("rationale").classList.remove("writing");
  running = null;
  const isFocused = document.activeElement === byId("aqua-stop");
  setRunning(false);
  if (isFocused) byId("attempt").focus();
}

function setRunning(isRunning) {
  byId("aqua-stop").hidden = !isRunning;
  byId("attempt").hidden = isRunning;
  byId("draw-button").disabled = isRunning;
}

function showLetters({ position, probabilities }) {
  history.push({ position, probabilities });
  for (const item of byId("options").children) {
    const share = probabilities[item.dataset.letter] ?? 0;
    item.querySelector(".fill").style.width = `${(100 * share).toFixed(1)}%`;
    item.querySelector(".share").textContent = `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
  }
  showHistory();
}

function showHistory() {
  if (history.length < 2) return;
  const series = problem.options.map(({ letter }, index) => ({
    index, points: history.map((each) => [each.position, each.probabilities[letter] ?? 0]),
  }));
  const label = "Probability of each letter over the tokens of the rationale";
  const legend = make("figcaption", {}, make("span", {}, "Probability by tokens written"),
    make("span", {}, ...problem.options.map(({ letter }, index) => makeKey(letter, index))));
  byId("letters-plot").replaceChildren(make("figure", {}, legend, drawPlot(series, { label, yRange: [0, 1], height: 170 })));
}

function makeKey(letter, index) {
  const key = make("span", { class: "key" }, ` ${letter} `);
  key.style.color = `var(--c${index % 5})`;
  key.style.fontWeight = "700";
  return key;
}

function showGrade(grade) {
  const box = byId("grade");
  const verdict = grade.answer === null
    ? `No answer was given; ${grade.gold} is right`
    : grade.correct ? `Right: ${grade.answer}` : `Wrong: it says ${grade.answer}, ${grade.gold} is right`;
  box.textContent = `${verdict} (reward ${grade.reward.toFixed(1)}, ${grade.num_tokens} tokens)`;
  box.classList.add(grade.correct ? "right" : "wrong");
  for (const item of byId("options").children) {
    const { letter } = item.dataset;
    const mark = item.querySelector(".mark");
    if (letter === grade.gold) {
      item.classList.add("gold");
      mark.textContent = "✓ right";
    } else if (letter === grade.answer) {
      item.classList.add("wrong");
      mark.textContent = "✗ its answer";
    }
  }
  new ReplyView(byId("gold-text")).show(grade.gold_parts);
  byId("gold").hidden = false;
}
