// The gallery: older pictures as one scrolls, new ones as they are finished.

import { page } from "./api.js";

/** @param {HTMLElement} gallery */
export function setUp(gallery) {
  document.addEventListener("job-ended", () => addNew(gallery));
  gallery.addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest("[data-more]");
    if (!(link instanceof HTMLAnchorElement) || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    addOlder(gallery, link);
  });
  watch(gallery);
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

/** @param {HTMLElement} gallery */
async function addNew(gallery) {
  const now = await page("/").catch(() => null);
  if (!now) return;
  const fresh = unseen(gallery, now);
  fresh.forEach((tile) => tile.classList.add("is-new"));
  tiles(gallery)?.prepend(...fresh);
  gallery.querySelector(".empty")?.toggleAttribute("hidden", !!gallery.querySelector("[data-key]"));
}

/**
 * The tiles of a fetched page that this gallery does not show yet.
 * @param {HTMLElement} gallery
 * @param {Document} fetched
 */
function unseen(gallery, fetched) {
  const known = new Set([...gallery.querySelectorAll("[data-key]")].map((tile) => tile.getAttribute("data-key")));
  return [...fetched.querySelectorAll("[data-tiles] [data-key]")]
    .filter((tile) => !known.has(tile.getAttribute("data-key")))
    .map((tile) => document.adoptNode(tile));
}

/** @param {HTMLElement} gallery */
const tiles = (gallery) => gallery.querySelector("[data-tiles]");
