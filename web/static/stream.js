// Follows one job: server-sent events, and polling where they do not come through.

import { call, Problem } from "./api.js";

/** @import { Job } from "./api.js" */

const FINAL = new Set(["done", "failed", "cancelled"]);
const PATIENCE = 3; // failed connections before polling
const PAUSE = 1000; // ms between polls
const MOST = 2; // streams of a page: a browser holds six connections to a server, and pages need some

let open = 0;

/** @param {string} state */
export const isFinal = (state) => FINAL.has(state);

/**
 * Tell every news of a job until its final state.
 * @param {{self: string, events: string}} links
 * @param {(job: Job) => void} tell
 * @param {(problem: Problem) => void} lose called when there is no such job any more
 */
export function follow(links, tell, lose) {
  if (open >= MOST) return void poll(links.self, tell, lose);
  const source = new EventSource(links.events);
  open += 1;
  const close = () => {
    source.close();
    open -= 1;
  };
  let failures = 0;
  source.addEventListener("job", (event) => {
    failures = 0;
    const job = JSON.parse(event.data);
    if (isFinal(job.state)) close();
    tell(job);
  });
  source.addEventListener("error", () => {
    failures += 1;
    if (source.readyState !== EventSource.CLOSED && failures < PATIENCE) return;
    close();
    poll(links.self, tell, lose);
  });
}

/**
 * @param {string} url
 * @param {(job: Job) => void} tell
 * @param {(problem: Problem) => void} lose
 */
async function poll(url, tell, lose) {
  try {
    const job = await call("GET", url);
    tell(job);
    if (isFinal(job.state)) return;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.status === 404) return lose(error);
  }
  setTimeout(poll, PAUSE, url, tell, lose);
}
