// Shows the OpenAPI document with Swagger UI.

const container = /** @type {HTMLElement} */ (document.getElementById("docs"));

window.SwaggerUIBundle({
  domNode: container,
  url: container.dataset.url,
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null, // no requests to other servers
});
