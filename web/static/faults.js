// Marks what is wrong at the field where it is wrong. Never changes what was typed.

import { Problem } from "./api.js";

/** @param {HTMLFormElement} form */
export function clearFaults(form) {
  form.querySelectorAll("[aria-invalid]").forEach((control) => control.removeAttribute("aria-invalid"));
  form.querySelectorAll(".fault, [data-trouble]").forEach((place) => write(place, ""));
}

/**
 * @param {HTMLFormElement} form
 * @param {Problem} problem
 */
export function showFault(form, problem) {
  const field = problem.field && form.querySelector(`[data-field~="${CSS.escape(problem.field)}"]`);
  if (!field || field.closest("[hidden]")) return write(form.querySelector("[data-trouble]"), problem.message);
  const control = field.querySelector("input, select, textarea");
  const fold = field.closest("details");
  if (fold) fold.open = true;
  write(field.querySelector(".fault"), sentence(problem.fix || problem.message));
  control?.setAttribute("aria-invalid", "true");
  if (control instanceof HTMLElement) control.focus();
}

/**
 * @param {Element | null} place
 * @param {string} text
 */
function write(place, text) {
  if (!place) return;
  place.textContent = text;
  place.toggleAttribute("hidden", !text);
}

/** @param {string} text */
function sentence(text) {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}
