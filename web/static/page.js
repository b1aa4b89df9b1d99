// The script of every page. It sets up the parts that the page has.

import { setUp as setUpForm } from "./create.js";
import { listenForCopy, showCopyButtons } from "./copy.js";
import { setUp as setUpGallery, setUpFinder } from "./gallery.js";
import { listenForBack } from "./history.js";
import { listenForActions, listenForCancel, setUpCard } from "./job.js";
import { setUpDelete } from "./picture.js";
import { setUp as setUpQueue } from "./queue.js";
import { localize } from "./times.js";

/**
 * @template {Element} T
 * @param {string} selector
 * @param {(part: T) => void} setUp
 */
function each(selector, setUp) {
  document.querySelectorAll(selector).forEach((part) => setUp(/** @type {T} */ (part)));
}

each("[data-create]", setUpForm);
each("[data-gallery]", setUpGallery);
each("[data-finder]", setUpFinder);
each("[data-job]", setUpCard);
each("[data-delete]", setUpDelete);
each("[data-queue]", setUpQueue);
listenForCancel();
listenForActions();
listenForCopy();
showCopyButtons(document);
localize(document);
listenForBack();
