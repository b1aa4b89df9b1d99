// Buttons that copy a text: hidden where the browser cannot.

import { say } from "./say.js";

/** @param {ParentNode} part */
export function reveal(part) {
  if (!navigator.clipboard) return;
  for (const button of part.querySelectorAll("[data-copy]")) button.removeAttribute("hidden");
}

/** One listener for all, those that come later included. */
export function listenForCopy() {
  document.addEventListener("click", async (event) => {
    const button = event.target instanceof Element && event.target.closest("[data-copy]");
    if (!(button instanceof HTMLElement)) return;
    await navigator.clipboard.writeText(button.dataset.copy ?? "");
    const words = button.querySelector("[data-copy-words]");
    if (words) words.textContent = "Copied";
    say("Copied.");
  });
}
