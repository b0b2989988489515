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
  // A page cannot set the session's cookie, and need not: the browser sends it along once one is signed in.
  const schemes = spec.components.securitySchemes;
  for (const name of Object.keys(schemes).filter((each) => schemes[each].in === "cookie")) {
    delete schemes[name];
    for (const operation of Object.values(spec.paths).flatMap(Object.values)) {
      operation.security = operation.security?.filter((each) => !(name in each));
    }
  }
  // A pasted key lives in this page's memory alone.
  SwaggerUIBundle({
    spec,
    domNode: place,
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    persistAuthorization: false,
    tryItOutEnabled: true,
    validatorUrl: null,
  });
})();
