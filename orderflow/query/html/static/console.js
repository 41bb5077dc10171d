// Updates the page while it is open, and lets / focus the search. Every page is complete without this file.
"use strict";

const LOST_MS = 15000;
const RECONNECT_MS = 10000;

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
let lostTimer = 0;

function showState(text, tone) {
  if (state.textContent === text) return;
  state.textContent = text;
  state.dataset.tone = tone;
}

// Keeps the keyboard focus, and leaves the part alone while text in it is selected.
function replace(part, html) {
  const selection = document.getSelection();
  if (!selection.isCollapsed && part.contains(selection.anchorNode)) return;
  const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  part.innerHTML = html;
  if (focused === null) return;
  const link = [...part.querySelectorAll("a")].find((each) => each.getAttribute("href") === focused);
  if (link) link.focus({ preventScroll: true });
}

function connect() {
  if (source || document.hidden) return;
  source = new EventSource(address);
  for (const part of document.querySelectorAll("[data-part]")) {
    source.addEventListener(part.dataset.part, (event) => {
      replace(part, event.data);
      showState("Live", "good");
    });
  }
  source.addEventListener("trouble", (event) => showState(event.data, "bad"));
  source.addEventListener("open", () => {
    clearTimeout(lostTimer);
    showState("Live", "good");
  });
  source.addEventListener("error", () => {
    // A stream ends after half a minute, and the browser reconnects by itself: only a longer gap is an error.
    clearTimeout(lostTimer);
    lostTimer = setTimeout(() => showState("Not live: the connection is lost", "bad"), LOST_MS);
    if (source.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(connect, RECONNECT_MS);
    }
  });
}

function disconnect() {
  if (source) source.close();
  source = null;
}

if (address) {
  connect();
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  window.addEventListener("pagehide", disconnect);
  window.addEventListener("pageshow", connect);
}
