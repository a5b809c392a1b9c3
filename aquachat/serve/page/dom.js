// Small tools over the DOM. Text is always set as text, never parsed as HTML.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text nodes. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

export function makeSvg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Says something to a screen reader. */
export function announce(text) {
  byId("announcer").textContent = text;
}

let noticeTimer = 0;

export function notify(text) {
  const notice = byId("notice");
  notice.textContent = text;
  notice.hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { notice.hidden = true; }, 8000);
}

/** Shows the parts of a reply as they come: text, and calculator calls as `60*3 = 180`. */
export class ReplyView {
  constructor(node) {
    this.node = node;
    this.parts = [];
    this.call = null;
    this.result = null;
    node.replaceChildren();
  }

  push(piece) {
    const last = this.parts[this.parts.length - 1];
    if (last && last.type === piece.type && !piece.starts && !last.ended) last.text += piece.text;
    else this.parts.push({ type: piece.type, text: piece.text });
    if (piece.ends) this.parts[this.parts.length - 1].ended = true;
    if (piece.type === "text") this.pushText(piece.text);
    else if (piece.type === "python") this.pushCall(piece);
    else this.pushResult(piece);
  }

  pushText(text) {
    if (!text) return;
    this.result = null;
    const last = this.node.lastChild;
    if (last && last.nodeType === Node.TEXT_NODE) last.appendData(text);
    else this.node.append(text);
  }

  pushCall(piece) {
    if (piece.starts || !this.call) {
      this.call = make("span", { class: "call", title: "A calculator call and its result" });
      this.node.append(this.call);
    }
    this.call.append(piece.text);
    if (piece.ends) { this.result = this.call; this.call = null; }
  }

  pushResult(piece) {
    if (!this.result) {
      this.result = make("span", { class: "call" });
      this.node.append(this.result);
    }
    if (piece.starts) this.result.append(" = ");
    this.result.append(piece.text);
  }

  /** Shows whole parts. */
  show(parts) {
    for (const part of parts) this.push({ ...part, starts: part.type !== "text", ends: part.type !== "text" });
  }

  get text() {
    return this.parts.filter((part) => part.type === "text").map((part) => part.text).join("");
  }
}
