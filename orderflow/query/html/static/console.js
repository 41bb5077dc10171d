// Keeps a page fresh, and makes / go to the search. Every page is complete without this file.
"use strict";

const LOST_AFTER = 15000;
const AGAIN_AFTER = 10000;

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, [contenteditable]");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const search = document.getElementById("find");
  search.focus();
  search.select();
});

const address = document.body.dataset.live;
const state = document.getElementById("live-state");
let source = null;
let lost = 0;

function say(text, tone) {
  if (state.textContent === text) return;
  state.textContent = text;
  state.dataset.tone = tone;
}

// Whoever reads a part with the keyboard or marks text in it keeps the place.
function show(part, html) {
  const selection = document.getSelection();
  if (!selection.isCollapsed && part.contains(selection.anchorNode)) return;
  const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  part.innerHTML = html;
  if (focused === null) return;
  const again = [...part.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused);
  if (again) again.focus({ preventScroll: true });
}

function follow() {
  if (source || document.hidden) return;
  source = new EventSource(address);
  for (const part of document.querySelectorAll("[data-part]")) {
    source.addEventListener(part.dataset.part, (event) => {
      show(part, event.data);
      say("Live", "good");
    });
  }
  source.addEventListener("trouble", (event) => say(event.data, "bad"));
  source.addEventListener("open", () => {
    clearTimeout(lost);
    say("Live", "good");
  });
  source.addEventListener("error", () => {
    // A stream ends after half a minute, and the browser comes again by itself; that is no news.
    clearTimeout(lost);
    lost = setTimeout(() => say("Not live: the connection is lost", "bad"), LOST_AFTER);
    if (source.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(follow, AGAIN_AFTER);
    }
  });
}

function leave() {
  if (source) source.close();
  source = null;
}

if (address) {
  follow();
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : follow()));
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", follow);
}
