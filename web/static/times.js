// Dates in the reader's own time zone and format.

/** @param {ParentNode} part */
export function localize(part) {
  for (const time of part.querySelectorAll("time")) {
    time.textContent = new Date(time.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  }
}
