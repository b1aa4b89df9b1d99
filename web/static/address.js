// The address of what the page shows.

const here = () => location.pathname + location.search;
let shown = here();

/**
 * The page shows something else now.
 * @param {string} address
 */
export function moveTo(address) {
  history.pushState(null, "", address);
  shown = here();
}

/** Going back leads to the address's own page, not to what stands here now; moving to #anchors does not count. */
export function listenForBack() {
  addEventListener("popstate", () => {
    if (here() !== shown) location.reload();
  });
}
