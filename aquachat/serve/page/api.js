// Requests to the server: JSON, server-sent events, and the token where it asks for one.

import { byId } from "./dom.js";

const TOKEN_KEY = "aquachat-token";

function headers(hasBody) {
  const found = hasBody ? { "content-type": "application/json" } : {};
  const token = sessionStorage.getItem(TOKEN_KEY);
  if (token) found.authorization = `Bearer ${token}`;
  return found;
}

let asking = null;

function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = byId("token-dialog");
    byId("token").value = "";
    dialog.addEventListener("close", () => {
      const token = byId("token").value.trim();
      if (token) sessionStorage.setItem(TOKEN_KEY, token);
      asking = null;
      resolve(Boolean(token));
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

async function request(path, options) {
  const { body, signal } = options;
  const response = await fetch(path, {
    method: body === undefined ? "GET" : "POST",
    headers: headers(body !== undefined),
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
    cache: "no-store",
  });
  if (response.status === 401 && await askForToken()) return request(path, options);
  if (!response.ok) throw new Error(await sentenceOf(response));
  return response;
}

async function sentenceOf(response) {
  try {
    const { error } = await response.json();
    const wait = response.headers.get("retry-after");
    return wait ? `${error.message}; try again in ${wait} s` : error.message;
  } catch {
    return `the server answered ${response.status}`;
  }
}

export async function getJson(path) {
  return (await request(path, {})).json();
}

/** Yields {name, data} of each server-sent event. */
export async function* postEvents(path, body, signal) {
  const response = await request(path, { body, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      held += value;
      let end;
      while ((end = held.indexOf("\n\n")) >= 0) {
        const found = readEvent(held.slice(0, end));
        held = held.slice(end + 2);
        if (found.data === "[DONE]") return;
        const data = JSON.parse(found.data);
        if (data.error) throw new Error(data.error.message);
        yield { name: found.name, data };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function readEvent(block) {
  const found = { name: "message", data: "" };
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) found.name = line.slice(7);
    else if (line.startsWith("data: ")) found.data += line.slice(6);
  }
  return found;
}
