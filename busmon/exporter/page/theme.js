// The theme: the viewer's choice, kept by the browser.

import { byId, say } from "./document.js";

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  say(byId("theme").firstElementChild, theme);
}

function remembered() {
  try {
    return THEMES.includes(localStorage.theme) ? localStorage.theme : "auto";
  } catch {
    return "auto"; // A browser that keeps nothing.
  }
}

byId("theme").addEventListener("click", () => {
  const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  setTheme(theme);
  try {
    localStorage.theme = theme;
  } catch {
    // It holds until the page is left.
  }
});

setTheme(remembered());
