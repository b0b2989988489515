// Draws the API reference from the OpenAPI document, for the server that this page came from.
(async () => {
  const place = document.getElementById("reference");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  follow();
  dark.addEventListener("change", follow);

  const answer = await fetch(place.dataset.schema);
  if (!answer.ok) {
    place.textContent = "The API document could not be loaded; please reload the page.";
    return;
  }
  const spec = await answer.json();
  // Behind another name or a tunnel, the address in the document may be out of reach from here.
  spec.servers = [{ url: location.origin }];
  const without = place.dataset.without.split(" ");
  const isLeftOut = (operation) => operation.tags.some((tag) => without.includes(tag));
  for (const [path, item] of Object.entries(spec.paths)) {
    for (const [method, operation] of Object.entries(item)) if (isLeftOut(operation)) delete item[method];
    if (!Object.keys(item).length) delete spec.paths[path];
  }
  spec.tags = spec.tags.filter((tag) => !without.includes(tag.name));
  // The session's cookie opens only what was left out.
  const schemes = spec.components.securitySchemes;
  for (const name of Object.keys(schemes).filter((each) => schemes[each].in === "cookie")) delete schemes[name];
  // A pasted key lives in this page's memory alone.
  SwaggerUIBundle({
    spec,
    domNode: place,
    deepLinking: true,
    defaultModelsExpandDepth: -1, // each is shown where it is used
    displayRequestDuration: true,
    persistAuthorization: false,
    tryItOutEnabled: true,
    validatorUrl: null,
  });
})();
