// Pieces of the document, and their update in place. Plain text goes in only as text, never as markup.

import { share } from "./figures.js";

export const byId = (id) => document.getElementById(id);

export function piece(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

export function drawing(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// Text is replaced only where it changed, so that a selection and a screen reader's place survive an update.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// The same for a text whose commands are between backticks.
export function sayMarked(element, text) {
  if (element.textContent === text.replaceAll("`", "")) return;
  element.replaceChildren(...text.split("`").map((part, index) => (index % 2 ? piece("code", "", part) : part)));
}

// One child for each item, in their order; a child stays while its item's key is there.
export function keep(parent, items, keyOf, make, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    const child = before.get(key) ?? make(item);
    child.dataset.key = key;
    before.delete(key);
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
    update(child, item);
  }
  for (const gone of before.values()) gone.remove();
}

export function marked(severity, text) {
  const mark = piece("span", "mark");
  mark.setAttribute("aria-hidden", "true");
  const state = piece("span", "state", mark, text);
  state.dataset.severity = severity;
  return state;
}

export function bar(part, all, words) {
  const full = share(part, all);
  const fill = piece("span");
  fill.style.inlineSize = `${Math.min(100, full * 100)}%`;
  fill.hidden = !part;
  const track = piece("span", "track", fill);
  track.setAttribute("aria-hidden", "true");
  const labelled = piece("span", "bar", track, piece("span", "", words));
  labelled.dataset.severity = severityOfFill(full);
  return labelled;
}

const severityOfFill = (full) => (full >= 1 ? "bad" : full >= 0.8 ? "fair" : "good");

export function isEmpty(id, rows) {
  const table = byId(id);
  table.hidden = !rows.length;
  table.nextElementSibling.hidden = rows.length > 0;
}
