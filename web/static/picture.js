// The page of one picture: deletes the picture after asking for confirmation.

import { call } from "./api.js";

/** @param {HTMLButtonElement} button */
export function setUpDelete(button) {
  const dialog = document.querySelector("dialog[data-confirm]");
  if (!(dialog instanceof HTMLDialogElement)) return;
  button.hidden = false;
  button.addEventListener("click", () => dialog.showModal());
  dialog.addEventListener("submit", (event) => {
    if (event.submitter?.getAttribute("value") !== "delete") return;
    event.preventDefault();
    deletePicture(button, dialog);
  });
}

/**
 * @param {HTMLButtonElement} button
 * @param {HTMLDialogElement} dialog
 */
async function deletePicture(button, dialog) {
  try {
    await call("DELETE", button.dataset.delete ?? "");
    location.assign(button.dataset.gallery ?? "");
  } catch (problem) {
    const trouble = dialog.querySelector("[data-trouble]");
    if (!trouble) return;
    trouble.textContent = problem instanceof Error ? problem.message : String(problem);
    trouble.removeAttribute("hidden");
  }
}
