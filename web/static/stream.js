// Follows one job by Server-Sent Events, and by polling if those do not get through.

import { call, Problem } from "./api.js";

/** @import { Job } from "./api.js" */

const FINAL = new Set(["done", "failed", "cancelled"]);
const MAX_FAILURES = 3; // failed connections before polling
const SILENCE_MS = 5000; // to wait for the first event before polling: a proxy may hold events back
const POLL_MS = 1000;
const MAX_STREAMS = 2; // per page: a browser opens at most six connections to a server, and pages need some too

let openStreams = 0;

/** @param {string} state */
export const isFinal = (state) => FINAL.has(state);

/**
 * Report every change of a job until it is final.
 * @param {{self: string, events: string}} links
 * @param {(job: Job) => void} onChange
 * @param {(problem: Problem) => void} onMissing called if the job no longer exists
 */
export function follow(links, onChange, onMissing) {
  if (openStreams >= MAX_STREAMS) return void poll(links.self, onChange, onMissing);
  const source = new EventSource(links.events);
  openStreams += 1;
  const close = () => {
    clearTimeout(silence);
    source.close();
    openStreams -= 1;
  };
  const giveUp = () => {
    close();
    poll(links.self, onChange, onMissing);
  };
  const silence = setTimeout(giveUp, SILENCE_MS);
  let failures = 0;
  source.addEventListener("job", (event) => {
    clearTimeout(silence);
    failures = 0;
    const job = JSON.parse(event.data);
    if (isFinal(job.state)) close();
    onChange(job);
  });
  source.addEventListener("error", () => {
    failures += 1;
    if (source.readyState === EventSource.CLOSED || failures >= MAX_FAILURES) giveUp();
  });
}

/**
 * @param {string} url
 * @param {(job: Job) => void} onChange
 * @param {(problem: Problem) => void} onMissing
 */
async function poll(url, onChange, onMissing) {
  try {
    const job = await call("GET", url);
    onChange(job);
    if (isFinal(job.state)) return;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.status === 404) return onMissing(error);
  }
  setTimeout(poll, POLL_MS, url, onChange, onMissing);
}
