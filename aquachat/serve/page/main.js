// Tabs, colours, and what the server says of its model.

import { startAqua, showAqua } from "./aqua.js";
import { getJson } from "./api.js";
import { startChat } from "./chat.js";
import { byId } from "./dom.js";
import { hideRuns, showRuns, startRuns } from "./runs.js";

const TABS = ["chat", "aqua", "runs"];
const THEMES = { system: ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };
const THEME_KEY = "aquachat-theme";

function select(name, { focus = false } = {}) {
  for (const each of TABS) {
    const tab = byId(`tab-${each}`);
    const isSelected = each === name;
    tab.setAttribute("aria-selected", String(isSelected));
    tab.tabIndex = isSelected ? 0 : -1;
    byId(`panel-${each}`).hidden = !isSelected;
    if (isSelected && focus) tab.focus();
  }
  if (location.hash.slice(1) !== name) history.replaceState(null, "", `#${name}`);
  if (name === "aqua") showAqua();
  if (name === "runs") showRuns(); else hideRuns();
}

function startTabs() {
  TABS.forEach((name, place) => {
    const tab = byId(`tab-${name}`);
    tab.addEventListener("click", () => select(name));
    tab.addEventListener("keydown", (event) => {
      const moves = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: TABS.length - 1 };
      if (!(event.key in moves)) return;
      event.preventDefault();
      select(TABS[(moves[event.key] + TABS.length) % TABS.length], { focus: true });
    });
  });
  const wanted = location.hash.slice(1);
  select(TABS.includes(wanted) ? wanted : "chat");
  window.addEventListener("hashchange", () => { if (TABS.includes(location.hash.slice(1))) select(location.hash.slice(1)); });
}

function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const [sign, name] = THEMES[theme];
  byId("theme").textContent = sign;
  byId("theme").setAttribute("aria-label", `Colours: ${name}`);
  byId("theme").title = `Colours: ${name}`;
  localStorage.setItem(THEME_KEY, theme);
}

function startTheme() {
  const names = Object.keys(THEMES);
  let theme = localStorage.getItem(THEME_KEY);
  if (!names.includes(theme)) theme = "system";
  setTheme(theme);
  byId("theme").addEventListener("click", () => {
    theme = names[(names.indexOf(theme) + 1) % names.length];
    setTheme(theme);
  });
}

async function showModel() {
  try {
    byId("model").textContent = (await getJson("/health")).model;
  } catch {
    byId("model").textContent = "";
  }
}

startTheme();
startChat();
startAqua();
startRuns();
startTabs();
showModel();
byId("question").focus();
