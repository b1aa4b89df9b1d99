// The gallery: loads older pictures on scrolling, and new ones as they are finished.

import { call, fetchPage } from "./api.js";

const POLL_MS = 1500; // between two requests, if event streams do not get through
const SILENCE_MS = 5000; // to wait for the first event before polling: a proxy may hold events back

/** @param {HTMLElement} gallery */
export function setUp(gallery) {
  gallery.addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest("[data-more]");
    if (!(link instanceof HTMLAnchorElement) || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    addOlder(gallery, link);
  });
  loadOnScroll(gallery);
  if (gallery.dataset.events) followNew(gallery);
}

/**
 * Apply a filter as soon as it changes, even if it changed before this script ran. Empty fields stay out of the
 * address.
 * @param {HTMLFormElement} form
 */
export function setUpFinder(form) {
  form.addEventListener("change", ({ target }) => isFilter(target) && form.requestSubmit());
  form.addEventListener("formdata", ({ formData }) => {
    for (const [name, value] of [...formData]) if (!value) formData.delete(name);
  });
  if ([...form.elements].some((field) => isFilter(field) && isChanged(field))) form.requestSubmit();
}

/**
 * @param {EventTarget | null} field
 * @returns {field is HTMLSelectElement | HTMLInputElement}
 */
function isFilter(field) {
  return field instanceof HTMLSelectElement || (field instanceof HTMLInputElement && field.type === "checkbox");
}

/** @param {HTMLSelectElement | HTMLInputElement} filter */
function isChanged(filter) {
  if (filter instanceof HTMLInputElement) return filter.checked !== filter.defaultChecked;
  const [first, ...others] = filter.options;
  return !(others.find((option) => option.defaultSelected) ?? first).selected;
}

/**
 * Show new pictures while the page is visible. A hidden page holds no connection, and catches up later.
 * @param {HTMLElement} gallery
 */
function followNew(gallery) {
  /** @type {EventSource | undefined} */
  let source;
  let silence = 0;
  let polling = false;
  const giveUp = () => {
    polling = true;
    connect();
    poll(gallery);
  };
  const connect = () => {
    clearTimeout(silence);
    source?.close();
    if (document.hidden || polling) return;
    source = new EventSource(gallery.dataset.events ?? "");
    silence = setTimeout(giveUp, SILENCE_MS);
    source.addEventListener("ready", () => clearTimeout(silence));
    source.addEventListener("picture", (event) => {
      setStart(gallery, event.lastEventId);
      addNew(gallery, JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      if (source?.readyState === EventSource.CLOSED) giveUp();
    });
  };
  document.addEventListener("visibilitychange", connect);
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && connect());
  connect();
}

/**
 * Let the next connection start after this picture.
 * @param {HTMLElement} gallery
 * @param {string} id
 */
function setStart(gallery, id) {
  const address = new URL(gallery.dataset.events ?? "", location.href);
  address.searchParams.set("since", id);
  gallery.dataset.events = address.href;
}

/** @param {HTMLElement} gallery */
async function poll(gallery) {
  const answer = document.hidden ? null : await call("GET", gallery.dataset.newPictures ?? "").catch(() => null);
  if (answer) {
    gallery.dataset.newPictures = answer.next;
    addNew(gallery, answer.tiles);
  }
  setTimeout(poll, POLL_MS, gallery);
}

/**
 * Load older pictures when their link comes near the visible part of the page.
 * @param {HTMLElement} gallery
 */
function loadOnScroll(gallery) {
  const link = gallery.querySelector("[data-more]");
  if (!link) return;
  const observer = new IntersectionObserver(
    ([entry]) => {
      if (entry.isIntersecting) addOlder(gallery, /** @type {HTMLAnchorElement} */ (link));
    },
    { rootMargin: "400px" },
  );
  observer.observe(link);
}

/**
 * Fetch the next page, append its tiles, and replace the link with that page's link, if it has one.
 * @param {HTMLElement} gallery
 * @param {HTMLAnchorElement} link
 */
async function addOlder(gallery, link) {
  if (link.dataset.busy) return;
  link.dataset.busy = "yes";
  const next = await fetchPage(link.href).catch(() => null);
  delete link.dataset.busy;
  if (!next) return;
  tileList(gallery)?.append(...newTiles(gallery, next));
  const more = next.querySelector("[data-more]");
  link.replaceWith(...(more ? [document.adoptNode(more)] : []));
  loadOnScroll(gallery);
}

/**
 * Put new tiles first, and remove the last ones if the gallery shows too many.
 * @param {HTMLElement} gallery
 * @param {string} html
 */
function addNew(gallery, html) {
  const fresh = newTiles(gallery, new DOMParser().parseFromString(html, "text/html"));
  fresh.forEach((tile) => tile.classList.add("is-new"));
  tileList(gallery)?.prepend(...fresh);
  if (!fresh.length) return;
  gallery.querySelector("[data-empty]")?.setAttribute("hidden", "");
  const maxTiles = Number(gallery.dataset.maxTiles);
  if (maxTiles) [...gallery.querySelectorAll("[data-key]")].slice(maxTiles).forEach((tile) => tile.remove());
}

/**
 * The tiles of a fetched page that the gallery does not show yet.
 * @param {HTMLElement} gallery
 * @param {Document} fetched
 */
function newTiles(gallery, fetched) {
  const known = new Set([...gallery.querySelectorAll("[data-key]")].map((tile) => tile.getAttribute("data-key")));
  return [...fetched.querySelectorAll(".tile[data-key]")]
    .filter((tile) => !known.has(tile.getAttribute("data-key")))
    .map((tile) => document.adoptNode(tile));
}

/** @param {HTMLElement} gallery */
const tileList = (gallery) => gallery.querySelector("[data-tiles]");
