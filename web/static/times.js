// Dates in the reader's own zone and manner.

/** @param {ParentNode} part */
export function localize(part) {
  for (const time of part.querySelectorAll("time")) {
    time.textContent = new Date(time.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  }
}
