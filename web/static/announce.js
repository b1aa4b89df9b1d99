// Announces changes to screen readers.

/** @param {string} text */
export function announce(text) {
  const region = document.getElementById("announcement");
  if (region) region.textContent = text;
}
