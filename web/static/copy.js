// Buttons that copy text. They stay hidden in browsers without access to the clipboard.

import { announce } from "./announce.js";

/** @param {ParentNode} part */
export function showCopyButtons(part) {
  if (!navigator.clipboard) return;
  for (const button of part.querySelectorAll("[data-copy]")) button.removeAttribute("hidden");
}

/** One listener for all copy buttons, including those added later. */
export function listenForCopy() {
  document.addEventListener("click", async (event) => {
    const button = event.target instanceof Element && event.target.closest("[data-copy]");
    if (!(button instanceof HTMLElement)) return;
    await navigator.clipboard.writeText(button.dataset.copy ?? "");
    const label = button.querySelector("[data-copy-label]");
    if (label) label.textContent = "Copied";
    announce("Copied.");
  });
}
