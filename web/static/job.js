// Keeps a job's card up to date. The card itself is rendered by the server.

import { announce } from "./announce.js";
import { call, fetchPage, postForm, Problem } from "./api.js";
import { showCopyButtons } from "./copy.js";
import { pushAddress } from "./history.js";
import { follow, isFinal } from "./stream.js";
import { localize } from "./times.js";

/** @import { Job } from "./api.js" */

const QUEUE_MS = 2000; // between two updates of a waiting job's position in the queue

/**
 * Fetch a job's card.
 * @param {string} url
 * @returns {Promise<HTMLElement>}
 */
export async function fetchCard(url) {
  return readCard(await fetchPage(url));
}

/**
 * @param {Document} fetched
 * @returns {HTMLElement}
 */
function readCard(fetched) {
  const card = fetched.querySelector("[data-job]");
  if (!(card instanceof HTMLElement)) throw new Problem("The server sent a page without a job.");
  localize(card);
  showCopyButtons(card);
  return document.adoptNode(card);
}

/**
 * Keep the card up to date until its job is final.
 * @param {HTMLElement} card
 */
export function setUpCard(card) {
  const { state = "", self = "", events = "" } = card.dataset;
  if (isFinal(state)) return;
  /** @type {Job | undefined} */
  let newest;
  let busy = false;
  const update = async (/** @type {Job} */ job) => {
    newest = job;
    if (busy) return;
    busy = true;
    while (newest.state !== card.dataset.state && card.isConnected) {
      card = await refresh(card).catch(() => waitAndKeep(card));
    }
    showProgress(card, newest);
    busy = false;
  };
  follow({ self, events }, update, (problem) => showTrouble(card, problem.message));
  if (state === "queued") setTimeout(updatePosition, QUEUE_MS, card.dataset.job);
}

/**
 * Update the job's position in the queue, which changes without any change of the job itself.
 * @param {string} id
 */
async function updatePosition(id) {
  const card = document.querySelector(`[data-job="${CSS.escape(id)}"][data-state="queued"]`);
  if (!(card instanceof HTMLElement)) return;
  const fresh = document.hidden ? null : await fetchCard(card.dataset.card ?? "").catch(() => null);
  for (const part of ["[data-progress-text]", "[data-others]"]) {
    const [freshPart, shownPart] = [fresh?.querySelector(part), card.querySelector(part)];
    if (freshPart && shownPart && fresh?.dataset.state === "queued") shownPart.textContent = freshPart.textContent;
  }
  setTimeout(updatePosition, QUEUE_MS, id);
}

/**
 * Replace the card with the server's current one.
 * @param {HTMLElement} card
 */
async function refresh(card) {
  const fresh = await fetchCard(card.dataset.card ?? "");
  const focused = card.contains(document.activeElement);
  card.replaceWith(fresh);
  if (focused) fresh.focus({ preventScroll: true });
  announceCard(fresh);
  return fresh;
}

/**
 * Wait a little and keep the same card: the server did not respond, so the refresh is tried again.
 * @param {HTMLElement} card
 * @returns {Promise<HTMLElement>}
 */
const waitAndKeep = (card) => new Promise((resolve) => setTimeout(resolve, 1000, card));

/**
 * Announce the card's state and reason.
 * @param {HTMLElement} card
 */
export function announceCard(card) {
  const badges = [...card.querySelectorAll(".badge")].map((badge) => badge.textContent);
  const why = card.querySelector("[data-why], .trouble")?.textContent ?? "";
  announce(`${badges.join(", ")}. ${why}`);
}

/**
 * @param {HTMLElement} card
 * @param {Job} job
 */
function showProgress(card, job) {
  const status = card.querySelector("[data-progress-text]");
  if (status && !isFinal(job.state)) status.textContent = progressText(job);
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
function progressText(job) {
  if (job.state === "running" && job.step) return `Step ${job.step} of ${job.steps}${timeLeft(job.seconds_left)}`;
  if (job.state === "running") return job.message ? `${job.message[0].toUpperCase()}${job.message.slice(1)}${timeLeft(job.seconds_left)}` : "Getting ready";
  if (job.position === null) return "Waiting for a worker";
  if (job.position === 0) return "Next in line";
  return `${job.position} ${job.position === 1 ? "picture" : "pictures"} ahead of yours`;
}

/** @param {number | null} seconds */
function timeLeft(seconds) {
  if (!seconds || seconds < 2) return "";
  return seconds < 90 ? `, ${Math.round(seconds)} s left` : `, ${Math.round(seconds / 60)} min left`;
}

/**
 * Show a problem in place of the progress.
 * @param {HTMLElement} card
 * @param {string} text
 */
function showTrouble(card, text) {
  const status = card.querySelector("[data-progress-text]");
  if (status) status.textContent = text;
  announce(text);
}

/** Cancel buttons call the API instead of submitting their form. */
export function listenForCancel() {
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || !form.dataset.cancel) return;
    event.preventDefault();
    const card = form.closest("[data-job]");
    await call("DELETE", form.dataset.cancel).catch((problem) => {
      if (card instanceof HTMLElement) showTrouble(card, problem.message);
    });
  });
}

/** "Another one" and similar buttons: the new job replaces this one on the page. */
export function listenForActions() {
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    const card = form instanceof HTMLFormElement && "action" in form.dataset && form.closest("[data-job]");
    if (!(card instanceof HTMLElement)) return;
    event.preventDefault();
    const button = event.submitter;
    if (button?.hasAttribute("aria-disabled")) return;
    button?.setAttribute("aria-disabled", "true");
    try {
      const fresh = readCard(await postForm(form.action));
      replace(card, fresh);
    } catch (problem) {
      const message = problem instanceof Error ? problem.message : String(problem);
      announce(message);
      showError(card, message);
      button?.removeAttribute("aria-disabled");
    }
  });
}

/**
 * Replace a job's card with that of another job.
 * @param {HTMLElement} card
 * @param {HTMLElement} fresh
 */
function replace(card, fresh) {
  const isOnlyCard = document.querySelectorAll("[data-job]").length === 1;
  card.replaceWith(fresh);
  if (isOnlyCard) pushAddress(fresh.dataset.page ?? "");
  fresh.focus({ preventScroll: true });
  announceCard(fresh);
  setUpCard(fresh);
}

/**
 * Show why a button's action failed, above the buttons.
 * @param {HTMLElement} card
 * @param {string} text
 */
function showError(card, text) {
  const trouble = card.querySelector(".trouble") ?? document.createElement("p");
  trouble.className = "trouble";
  trouble.textContent = text;
  card.querySelector(".actions")?.before(trouble);
}
