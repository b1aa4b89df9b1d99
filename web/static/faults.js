// Shows what is wrong next to the field that is wrong. It never changes what was typed.

import { Problem } from "./api.js";

/** @param {HTMLFormElement} form */
export function clearFaults(form) {
  form.querySelectorAll("[aria-invalid]").forEach((control) => control.removeAttribute("aria-invalid"));
  form.querySelectorAll(".fault, [data-trouble]").forEach((place) => setText(place, ""));
}

/**
 * @param {HTMLFormElement} form
 * @param {Problem} problem
 */
export function showFault(form, problem) {
  const field = problem.field && form.querySelector(`[data-field~="${CSS.escape(problem.field)}"]`);
  if (!field || field.closest("[hidden]")) return setText(form.querySelector("[data-trouble]"), problem.message);
  const control = field.querySelector("input, select, textarea");
  const details = field.closest("details");
  if (details) details.open = true;
  setText(field.querySelector(".fault"), toSentence(problem.fix || problem.message));
  control?.setAttribute("aria-invalid", "true");
  if (control instanceof HTMLElement) control.focus();
}

/**
 * Show a text, or hide the element if the text is empty.
 * @param {Element | null} place
 * @param {string} text
 */
function setText(place, text) {
  if (!place) return;
  place.textContent = text;
  place.toggleAttribute("hidden", !text);
}

/** @param {string} text */
function toSentence(text) {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}
