// Where a page wakes up: each part is set up if the page has it.

import { listenForBack } from "./address.js";
import { listenForCopy, reveal } from "./copy.js";
import { setUp as setUpForm } from "./create.js";
import { setUp as setUpGallery, setUpFinder } from "./gallery.js";
import { enliven, listenForCancel, listenForDeeds } from "./job.js";
import { setUpDelete } from "./picture.js";
import { setUp as setUpQueue } from "./queue.js";
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
each("[data-finder]", setUpFinder);
each("[data-job]", enliven);
each("[data-forget]", setUpDelete);
each("[data-queue]", setUpQueue);
listenForCancel();
listenForDeeds();
listenForCopy();
reveal(document);
localize(document);
listenForBack();
