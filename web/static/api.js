// Requests to the server.

/**
 * @typedef {object} Job
 * @property {string} id
 * @property {"queued"|"running"|"done"|"failed"|"cancelled"} state
 * @property {"painted"|"memory"|"near"|"joined"} origin
 * @property {number} step
 * @property {number} steps
 * @property {number|null} position how many paintings are ahead of it
 * @property {string} message what the job is doing or waiting for, while it takes no steps
 * @property {number|null} seconds_left while it is being painted
 * @property {{self: string, events: string, preview?: string}} links
 */

const ACCEPT_PAGE = "text/html;q=0.9, application/json"; // a page, but errors as JSON

/** An error, from RFC 9457 problem details. */
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
 * Call the API.
 * @param {string} method
 * @param {string} url
 * @param {object} [body] sent as JSON; a file is sent unchanged
 * @returns {Promise<any>} the JSON of the response, null if it is empty
 * @throws {Problem}
 */
export async function call(method, url, body) {
  const response = await request(url, {
    method,
    headers: { Accept: "application/json", ...csrfHeader(), ...(body && { "Content-Type": body instanceof Blob ? body.type : "application/json" }) },
    body: body instanceof Blob ? body : body && JSON.stringify(body),
  });
  return response.status === 204 ? null : response.json();
}

/**
 * Fetch a page.
 * @param {string} url
 * @returns {Promise<Document>}
 * @throws {Problem}
 */
export async function fetchPage(url) {
  const response = await request(url, { headers: { Accept: ACCEPT_PAGE } });
  return new DOMParser().parseFromString(await response.text(), "text/html");
}

/**
 * Submit an empty form, and fetch the page that it leads to.
 * @param {string} url
 * @returns {Promise<Document>}
 * @throws {Problem}
 */
export async function postForm(url) {
  const response = await request(url, { method: "POST", headers: { Accept: ACCEPT_PAGE, ...csrfHeader() } });
  return new DOMParser().parseFromString(await response.text(), "text/html");
}

/** The header that proves, for signed-in users, that a request comes from one of our own pages. */
function csrfHeader() {
  const meta = document.querySelector('meta[name="csrf-token"]');
  return meta instanceof HTMLMetaElement ? { "X-CSRF-Token": meta.content } : {};
}

/**
 * @param {string} url
 * @param {RequestInit} options
 */
async function request(url, options) {
  const response = await fetch(url, options).catch(() => {
    throw new Problem("The server cannot be reached. Is it running?");
  });
  if (!response.ok) throw await readProblem(response);
  return response;
}

/** @param {Response} response */
async function readProblem(response) {
  const details = await response.json().catch(() => ({}));
  const message = details.detail || details.title || `The server responded with status ${response.status}.`;
  return new Problem(message, { status: response.status, field: details.field, fix: details.fix });
}
