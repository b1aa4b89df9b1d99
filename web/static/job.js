// Keeps the card of a job true while the job goes on. The card itself is drawn by the server.

import { moveTo } from "./address.js";
import { call, page, Problem, send } from "./api.js";
import { reveal } from "./copy.js";
import { say } from "./say.js";
import { follow, isFinal } from "./stream.js";
import { localize } from "./times.js";

/** @import { Job } from "./api.js" */

const LINE = 2000; // ms between two looks at the line of those who wait

/**
 * Fetch a job's card.
 * @param {string} url
 * @returns {Promise<HTMLElement>}
 */
export async function fetchCard(url) {
  return cardOf(await page(url));
}

/**
 * @param {Document} fetched
 * @returns {HTMLElement}
 */
function cardOf(fetched) {
  const card = fetched.querySelector("[data-job]");
  if (!(card instanceof HTMLElement)) throw new Problem("The server sent no card.");
  localize(card);
  reveal(card);
  return document.adoptNode(card);
}

/**
 * Keep the card up to date; a card in a final state stays as it is.
 * @param {HTMLElement} card
 */
export function enliven(card) {
  const { state = "", self = "", events = "" } = card.dataset;
  if (isFinal(state)) return;
  /** @type {Job | undefined} */
  let newest;
  let busy = false;
  const tell = async (/** @type {Job} */ job) => {
    newest = job;
    if (busy) return;
    busy = true;
    while (newest.state !== card.dataset.state && card.isConnected) {
      card = await renewed(card).catch(() => pause(card));
    }
    advance(card, newest);
    busy = false;
  };
  follow({ self, events }, tell, (problem) => trouble(card, problem.message));
  if (state === "queued") setTimeout(lookAtLine, LINE, card.dataset.job);
}

/**
 * Who waits beside this job changes without news of the job itself.
 * @param {string} id
 */
async function lookAtLine(id) {
  const card = document.querySelector(`[data-job="${CSS.escape(id)}"][data-state="queued"]`);
  if (!(card instanceof HTMLElement)) return;
  const fresh = document.hidden ? null : await fetchCard(card.dataset.card ?? "").catch(() => null);
  for (const part of ["[data-words]", "[data-company]"]) {
    const [now, then] = [fresh?.querySelector(part), card.querySelector(part)];
    if (now && then && fresh?.dataset.state === "queued") then.textContent = now.textContent;
  }
  setTimeout(lookAtLine, LINE, id);
}

/** @param {HTMLElement} card */
async function renewed(card) {
  const fresh = await fetchCard(card.dataset.card ?? "");
  const focused = card.contains(document.activeElement);
  card.replaceWith(fresh);
  if (focused) fresh.focus({ preventScroll: true });
  announce(fresh);
  return fresh;
}

/**
 * The server did not answer: wait a little, then the same card is tried again.
 * @param {HTMLElement} card
 * @returns {Promise<HTMLElement>}
 */
const pause = (card) => new Promise((resolve) => setTimeout(resolve, 1000, card));

/**
 * Say the card's state, and tell the rest of the page when a job has ended.
 * @param {HTMLElement} card
 */
export function announce(card) {
  const badges = [...card.querySelectorAll(".badge")].map((badge) => badge.textContent);
  const why = card.querySelector("[data-why], .trouble")?.textContent ?? "";
  say(`${badges.join(", ")}. ${why}`);
  if (!isFinal(card.dataset.state ?? "")) return;
  document.dispatchEvent(new CustomEvent("job-ended", { detail: card.dataset }));
}

/**
 * @param {HTMLElement} card
 * @param {Job} job
 */
function advance(card, job) {
  const words = card.querySelector("[data-words]");
  if (words && !isFinal(job.state)) words.textContent = progressWords(job);
  const bar = card.querySelector("[data-progress]");
  if (bar instanceof HTMLProgressElement && job.step) {
    bar.max = job.steps;
    bar.value = job.step;
  }
  const preview = card.querySelector("[data-preview]");
  if (preview instanceof HTMLImageElement && job.links.preview && preview.getAttribute("src") !== job.links.preview) {
    preview.src = job.links.preview;
    preview.hidden = false;
  }
  if (job.steps) card.querySelector("[data-mist]")?.setAttribute("opacity", String(0.25 + (0.75 * job.step) / job.steps));
}

/** @param {Job} job */
function progressWords(job) {
  if (job.state === "running" && job.step) return `Step ${job.step} of ${job.steps}${timeLeft(job.seconds_left)}`;
  if (job.state === "running") return job.message ? `${job.message[0].toUpperCase()}${job.message.slice(1)}${timeLeft(job.seconds_left)}` : "Getting ready";
  if (job.position === null) return "Waiting for a painter";
  return job.position === 0 ? "Next in line" : `${job.position} before yours`;
}

/** @param {number | null} seconds */
function timeLeft(seconds) {
  if (!seconds || seconds < 2) return "";
  return seconds < 90 ? `, ${Math.round(seconds)} s left` : `, ${Math.round(seconds / 60)} min left`;
}

/**
 * @param {HTMLElement} card
 * @param {string} text
 */
function trouble(card, text) {
  const words = card.querySelector("[data-words]");
  if (words) words.textContent = text;
  say(text);
}

/** Cancel buttons ask the API instead of sending their form. */
export function listenForCancel() {
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || !form.dataset.cancel) return;
    event.preventDefault();
    const card = form.closest("[data-job]");
    await call("DELETE", form.dataset.cancel).catch((problem) => {
      if (card instanceof HTMLElement) trouble(card, problem.message);
    });
  });
}

/** "Another one" and the like: the job that they lead to takes this one's place on the page. */
export function listenForDeeds() {
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    const card = form instanceof HTMLFormElement && "deed" in form.dataset && form.closest("[data-job]");
    if (!(card instanceof HTMLElement)) return;
    event.preventDefault();
    const button = event.submitter;
    if (button?.hasAttribute("aria-disabled")) return;
    button?.setAttribute("aria-disabled", "true");
    try {
      const fresh = cardOf(await send(form.action));
      replace(card, fresh);
    } catch (problem) {
      say(problem instanceof Error ? problem.message : String(problem));
      complain(card, problem instanceof Error ? problem.message : String(problem));
      button?.removeAttribute("aria-disabled");
    }
  });
}

/**
 * @param {HTMLElement} card
 * @param {HTMLElement} fresh
 */
function replace(card, fresh) {
  const alone = document.querySelectorAll("[data-job]").length === 1;
  card.replaceWith(fresh);
  if (alone) moveTo(fresh.dataset.page ?? "");
  fresh.focus({ preventScroll: true });
  announce(fresh);
  enliven(fresh);
}

/**
 * @param {HTMLElement} card
 * @param {string} text
 */
function complain(card, text) {
  const place = card.querySelector(".trouble") ?? document.createElement("p");
  place.className = "trouble";
  place.textContent = text;
  card.querySelector(".deeds")?.before(place);
}
