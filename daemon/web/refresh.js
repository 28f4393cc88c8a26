"use strict";
// The main part of the page is fetched anew every few seconds; where that fails, the page says so and goes on trying.
const EVERY = 5000;  // ms
const heard = { at: Date.now() };

async function refresh() {
  const notice = document.getElementById("silent");
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(4 * EVERY) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("main");
    if (!fresh) throw new Error("no page");
    const now = document.querySelector("main");
    if (now.innerHTML !== fresh.innerHTML) now.replaceWith(document.adoptNode(fresh));
    document.title = page.title;
    heard.at = Date.now();
    notice.hidden = true;
  } catch {
    const seconds = Math.round((Date.now() - heard.at) / 1000);
    notice.textContent = `No answer for ${seconds} s: this page is old. Is the daemon running?`;
    notice.hidden = false;
  }
  setTimeout(refresh, EVERY);
}

if (location.pathname === "/") setTimeout(refresh, EVERY);
