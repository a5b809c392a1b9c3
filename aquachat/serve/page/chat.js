// The chat panel: a conversation with streaming, stop, edit and retry.

import { getJson, postEvents } from "./api.js";
import { announce, byId, make, notify, ReplyView } from "./dom.js";

const NUM_SUGGESTIONS = 3;

let turns = [];
let running = null;

export function startChat() {
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  byId("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  byId("question").addEventListener("input", fitQuestion);
  byId("stop").addEventListener("click", stop);
  byId("new-chat").addEventListener("click", () => {
    stop();
    turns = [];
    render();
    byId("question").focus();
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && running) stop(); });
  render();
  suggest();
}

/** Offers problems of the kind the model was trained for, asked the way it was trained. */
async function suggest() {
  try {
    const draw = () => getJson("/api/problems?source=synthetic/new_numbers");
    const problems = await Promise.all(Array.from({ length: NUM_SUGGESTIONS }, draw));
    byId("suggestions").replaceChildren(...problems.map(({ question, prompt }) => (
      make("button", { type: "button", onclick: () => ask(prompt) }, question))));
  } catch (error) {
    notify(error.message);
  }
}

function fitQuestion() {
  const box = byId("question");
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight + 2, window.innerHeight * 0.38)}px`;
}

function send() {
  const box = byId("question");
  const text = box.value.trim();
  if (!text || running) return;
  box.value = "";
  fitQuestion();
  ask(text);
}

function stop() {
  if (running) running.abort();
}

/** Asks, with the conversation so far, and streams the reply into a new turn. */
async function ask(text) {
  if (running) return;
  turns.push({ role: "user", text });
  const reply = { role: "assistant", parts: [], ending: "" };
  turns.push(reply);
  render();
  running = new AbortController();
  setRunning(true);
  const bubble = byId("messages").lastElementChild.querySelector(".bubble");
  const view = new ReplyView(bubble);
  bubble.classList.add("writing");
  const asked = { messages: turns.slice(0, -1).map(messageOf), stream: true, ...settings() };
  try {
    for await (const { data } of postEvents("/v1/chat/completions", asked, running.signal)) {
      for (const choice of data.choices) take(choice, view, reply);
      follow();
    }
  } catch (error) {
    reply.ending = error.name === "AbortError" ? "stopped" : "failed";
    if (error.name !== "AbortError") notify(error.message);
  }
  reply.parts = view.parts;
  running = null;
  setRunning(false);
  if (reply.ending === "failed" && !reply.parts.length) {
    turns.splice(-2);
    byId("question").value = text;
    fitQuestion();
  }
  render();
  announce(reply.ending === "failed" ? "" : `Reply: ${view.text}`);
  byId("question").focus();
}

function take(choice, view, reply) {
  const { delta } = choice;
  if (delta.aquachat) delta.aquachat.parts.forEach((piece) => view.push(piece));
  else if (delta.content) view.push({ type: "text", text: delta.content });
  if (choice.finish_reason === "length") reply.ending = "cut off at the longest length";
}

function messageOf(turn) {
  if (turn.role === "user") return { role: "user", content: turn.text };
  const parts = turn.parts.map(({ type, text }) => ({ type, text }));
  return { role: "assistant", content: parts.length ? parts : "" };
}

function settings() {
  const found = {
    temperature: numberOf("temperature", 0),
    top_p: numberOf("top-p", 1),
    max_tokens: numberOf("max-tokens", 256),
    calculator: byId("calculator").checked,
  };
  if (byId("seed").value !== "") found.seed = Number(byId("seed").value);
  return found;
}

function numberOf(id, otherwise) {
  const value = byId(id).valueAsNumber;
  return Number.isFinite(value) ? value : otherwise;
}

function setRunning(isRunning) {
  const hadFocus = document.activeElement === byId("send") || document.activeElement === byId("stop");
  byId("stop").hidden = !isRunning;
  byId("send").hidden = isRunning;
  byId("messages").setAttribute("aria-busy", String(isRunning));
  if (hadFocus) byId(isRunning ? "stop" : "send").focus();
}

function follow() {
  const list = byId("messages");
  if (list.scrollHeight - list.scrollTop - list.clientHeight < 120) list.scrollTop = list.scrollHeight;
}

function render() {
  byId("chat-empty").hidden = turns.length > 0;
  byId("messages").replaceChildren(...turns.map(renderTurn));
  byId("messages").scrollTop = byId("messages").scrollHeight;
}

function renderTurn(turn, place) {
  const isUser = turn.role === "user";
  const bubble = make("div", { class: "bubble" });
  if (isUser) bubble.textContent = turn.text;
  else new ReplyView(bubble).show(turn.parts);
  const actions = make("div", { class: "actions" });
  if (turn.ending) actions.append(make("span", { class: "ending" }, turn.ending));
  if (isUser) actions.append(make("button", { class: "quiet", type: "button", onclick: () => edit(place) }, "Edit"));
  else actions.append(make("button", { class: "quiet", type: "button", onclick: () => retry(place) }, "Retry"));
  const who = make("div", { class: "who" }, isUser ? "You" : "Model");
  return make("div", { class: `message ${turn.role}` }, who, bubble, actions);
}

/** Asks the question before this reply again; what came after it goes. */
function retry(place) {
  if (running) return;
  const text = turns[place - 1].text;
  turns = turns.slice(0, place - 1);
  ask(text);
}

/** Lets a question be changed in its place; what came after it goes when it is sent. */
function edit(place) {
  if (running) return;
  const box = make("textarea", { rows: "3", "aria-label": "Your message, edited" });
  box.value = turns[place].text;
  const form = make("form", { class: "edit" }, box, make("div", { class: "buttons" },
    make("button", { class: "quiet", type: "button", onclick: render }, "Cancel"),
    make("button", { class: "primary", type: "submit" }, "Send")));
  const submit = (event) => {
    event.preventDefault();
    const text = box.value.trim();
    if (!text) return;
    turns = turns.slice(0, place);
    ask(text);
  };
  form.addEventListener("submit", submit);
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
    if (event.key === "Escape") render();
  });
  byId("messages").children[place].replaceChildren(form);
  box.focus();
}
