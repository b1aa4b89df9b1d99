// Talks to the server; knows addresses and answers, nothing of the page.

/**
 * @typedef {object} Job
 * @property {string} id
 * @property {"queued"|"running"|"done"|"failed"|"cancelled"} state
 * @property {"painted"|"memory"|"joined"} origin
 * @property {number} step
 * @property {number} steps
 * @property {number|null} position jobs before this one
 * @property {string} message what is waited for, where steps say nothing
 * @property {number|null} seconds_left while it is painted
 * @property {{self: string, events: string, preview?: string}} links
 */

const PAGE = "text/html;q=0.9, application/json"; // a page, but what goes wrong is to be told as JSON

/** What went wrong, as RFC 9457 problem details tell it. */
export class Problem extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, field?: string, fix?: string}} [more]
   */
  constructor(message, { status = 0, field, fix } = {}) {
    super(message);
    this.status = status;
    this.field = field;
    this.fix = fix;
  }
}

/**
 * Ask the API.
 * @param {string} method
 * @param {string} url
 * @param {object} [body] sent as JSON, a file as it is
 * @returns {Promise<any>} the JSON answer, null when it is empty
 * @throws {Problem}
 */
export async function call(method, url, body) {
  const answer = await reach(url, {
    method,
    headers: { Accept: "application/json", ...token(), ...(body && { "Content-Type": body instanceof Blob ? body.type : "application/json" }) },
    body: body instanceof Blob ? body : body && JSON.stringify(body),
  });
  return answer.status === 204 ? null : answer.json();
}

/**
 * Fetch a page and take it apart.
 * @param {string} url
 * @returns {Promise<Document>}
 * @throws {Problem}
 */
export async function page(url) {
  const answer = await reach(url, { headers: { Accept: PAGE } });
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

/**
 * Do what a form would do, and take the page apart that it leads to.
 * @param {string} url
 * @returns {Promise<Document>}
 * @throws {Problem}
 */
export async function send(url) {
  const answer = await reach(url, { method: "POST", headers: { Accept: PAGE, ...token() } });
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

/** For whoever is signed in: what shows that a request comes from our own page. */
function token() {
  const meta = document.querySelector('meta[name="csrf-token"]');
  return meta instanceof HTMLMetaElement ? { "X-CSRF-Token": meta.content } : {};
}

/**
 * @param {string} url
 * @param {RequestInit} request
 */
async function reach(url, request) {
  const answer = await fetch(url, request).catch(() => {
    throw new Problem("The server cannot be reached. Is it running?");
  });
  if (!answer.ok) throw await problem(answer);
  return answer;
}

/** @param {Response} answer */
async function problem(answer) {
  const details = await answer.json().catch(() => ({}));
  const message = details.detail || details.title || `The server answered ${answer.status}.`;
  return new Problem(message, { status: answer.status, field: details.field, fix: details.fix });
}
