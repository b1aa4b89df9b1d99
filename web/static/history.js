// Keeps the address in step with what the page shows.

const address = () => location.pathname + location.search;
let shown = address();

/**
 * Change the address without loading another page.
 * @param {string} url
 */
export function pushAddress(url) {
  history.pushState(null, "", url);
  shown = address();
}

/** When the user goes back to another address, load its page. Moving between #anchors does not count. */
export function listenForBack() {
  addEventListener("popstate", () => {
    if (address() !== shown) location.reload();
  });
}
