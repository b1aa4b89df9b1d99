// Where a page wakes up: each part is set up if the page has it.

import { setUp as setUpForm } from "./create.js";
import { setUp as setUpGallery } from "./gallery.js";
import { enliven, listenForCancel } from "./job.js";
import { setUpCopy, setUpDelete } from "./picture.js";
import { localize } from "./times.js";

/**
 * @template {Element} T
 * @param {string} selector
 * @param {(part: T) => void} deed
 */
function each(selector, deed) {
  document.querySelectorAll(selector).forEach((part) => deed(/** @type {T} */ (part)));
}

each("[data-create]", setUpForm);
each("[data-gallery]", setUpGallery);
each("[data-job]", enliven);
each("[data-forget]", setUpDelete);
each("[data-copy]", setUpCopy);
listenForCancel();
localize(document);

// Going back leads to the address's own page, not to what stands here now; moving to #anchors does not count.
const opened = location.pathname;
addEventListener("popstate", () => {
  const card = document.querySelector("#stage > [data-page]");
  if (location.pathname !== (card?.getAttribute("data-page") ?? opened)) location.reload();
});
