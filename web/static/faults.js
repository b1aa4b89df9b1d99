// Shows each fault next to its field. It never changes what the user entered.

import { Problem } from "./api.js";

/** @param {HTMLFormElement} form */
export function clearFaults(form) {
  form.querySelectorAll("[aria-invalid]").forEach((control) => control.removeAttribute("aria-invalid"));
  form.querySelectorAll(".fault, [data-trouble]").forEach((element) => setText(element, ""));
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
 * @param {Element | null} element
 * @param {string} text
 */
function setText(element, text) {
  if (!element) return;
  element.textContent = text;
  element.toggleAttribute("hidden", !text);
}

/** @param {string} text */
function toSentence(text) {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}
