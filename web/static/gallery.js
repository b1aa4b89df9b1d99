// The gallery: older pictures as one scrolls, new ones as they are finished.

import { call, page } from "./api.js";

const PAUSE = 1500; // ms between two looks where event streams do not come through

/** @param {HTMLElement} gallery */
export function setUp(gallery) {
  gallery.addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest("[data-more]");
    if (!(link instanceof HTMLAnchorElement) || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    addOlder(gallery, link);
  });
  watch(gallery);
  if (gallery.dataset.events) live(gallery);
}

/**
 * A filter is applied when it is chosen, be it before the page woke up, and fields left empty stay out of the address.
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
 * Show new pictures, while anybody looks: a hidden page holds no connection, and catches up afterwards.
 * @param {HTMLElement} gallery
 */
function live(gallery) {
  /** @type {EventSource | undefined} */
  let source;
  const connect = () => {
    source?.close();
    if (document.hidden) return;
    source = new EventSource(gallery.dataset.events ?? "");
    source.addEventListener("picture", (event) => {
      catchUp(gallery, event.lastEventId);
      addNew(gallery, JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      if (source?.readyState !== EventSource.CLOSED) return;
      document.removeEventListener("visibilitychange", connect);
      poll(gallery);
    });
  };
  document.addEventListener("visibilitychange", connect);
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && connect());
  connect();
}

/**
 * The next connection begins where this one is.
 * @param {HTMLElement} gallery
 * @param {string} name
 */
function catchUp(gallery, name) {
  const address = new URL(gallery.dataset.events ?? "", location.href);
  address.searchParams.set("since", name);
  gallery.dataset.events = address.href;
}

/** @param {HTMLElement} gallery */
async function poll(gallery) {
  const news = document.hidden ? null : await call("GET", gallery.dataset.news ?? "").catch(() => null);
  if (news) {
    gallery.dataset.news = news.next;
    addNew(gallery, news.tiles);
  }
  setTimeout(poll, PAUSE, gallery);
}

/**
 * Press the link when it comes near, so that scrolling goes on.
 * @param {HTMLElement} gallery
 */
function watch(gallery) {
  const link = gallery.querySelector("[data-more]");
  if (!link) return;
  const near = new IntersectionObserver(
    ([entry]) => {
      if (entry.isIntersecting) addOlder(gallery, /** @type {HTMLAnchorElement} */ (link));
    },
    { rootMargin: "400px" },
  );
  near.observe(link);
}

/**
 * @param {HTMLElement} gallery
 * @param {HTMLAnchorElement} link
 */
async function addOlder(gallery, link) {
  if (link.dataset.busy) return;
  link.dataset.busy = "yes";
  const next = await page(link.href).catch(() => null);
  delete link.dataset.busy;
  if (!next) return;
  tiles(gallery)?.append(...unseen(gallery, next));
  const more = next.querySelector("[data-more]");
  link.replaceWith(...(more ? [document.adoptNode(more)] : []));
  watch(gallery);
}

/**
 * @param {HTMLElement} gallery
 * @param {string} html
 */
function addNew(gallery, html) {
  const fresh = unseen(gallery, new DOMParser().parseFromString(html, "text/html"));
  fresh.forEach((tile) => tile.classList.add("is-new"));
  tiles(gallery)?.prepend(...fresh);
  if (!fresh.length) return;
  gallery.querySelector("[data-empty]")?.setAttribute("hidden", "");
  const keep = Number(gallery.dataset.keep);
  if (keep) [...gallery.querySelectorAll("[data-key]")].slice(keep).forEach((tile) => tile.remove());
}

/**
 * The tiles of a fetched page that this gallery does not show yet.
 * @param {HTMLElement} gallery
 * @param {Document} fetched
 */
function unseen(gallery, fetched) {
  const known = new Set([...gallery.querySelectorAll("[data-key]")].map((tile) => tile.getAttribute("data-key")));
  return [...fetched.querySelectorAll(".tile[data-key]")]
    .filter((tile) => !known.has(tile.getAttribute("data-key")))
    .map((tile) => document.adoptNode(tile));
}

/** @param {HTMLElement} gallery */
const tiles = (gallery) => gallery.querySelector("[data-tiles]");
