// Shows the description of the API; all else is Swagger UI's.

const place = /** @type {HTMLElement} */ (document.getElementById("docs"));

window.SwaggerUIBundle({
  domNode: place,
  url: place.dataset.url,
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null, // asks nobody else
});
