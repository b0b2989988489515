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
  // Behind another name or a tunnel, the address in the document may be out of reach from here: this page's is not.
  delete spec.servers;
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
    plugins: [pageLayout],
    layout: "PageLayout",
    syntaxHighlight: { theme: "tomorrow-night" },
    tryItOutEnabled: true,
    validatorUrl: null,
  });
  nameControls(place);
  new MutationObserver(() => nameControls(place)).observe(place, { childList: true, subtree: true });
})();

// As Swagger UI's own, but without a <main>: the page has one.
function pageLayout(system) {
  const { createElement } = system.React;
  const PageLayout = ({ getComponent }) => {
    const part = (name) => createElement(getComponent(name, true));
    const wrapped = (...parts) => createElement("div", { className: "wrapper" }, ...parts);
    return createElement(
      "div",
      { className: "swagger-ui" },
      part("errors"),
      wrapped(part("InfoContainer")),
      createElement("div", { className: "scheme-container" }, wrapped(part("AuthorizeBtnContainer"))),
      wrapped(part("operations")),
    );
  };
  return { components: { PageLayout } };
}

// What Swagger UI leaves for those who hear a page, or who walk through it by keys.
function nameControls(place) {
  const put = (selector, attributes) => {
    for (const each of place.querySelectorAll(selector)) {
      for (const [name, value] of Object.entries(attributes)) {
        if (each.getAttribute(name) !== value) each.setAttribute(name, value);
      }
    }
  };
  put(".opblock-tag", { role: "heading", "aria-level": "2" });
  put(".opblock-section-header h4", { role: "heading", "aria-level": "3" });
  put(".examples-select-element", { "aria-label": "Example" });
  put(".content-type", { "aria-label": "Media type" });
  put("textarea.body-param__text", { "aria-label": "Body of the request" });
  put(".microlight", { tabindex: "0" });
  // A link in a button cannot be reached; the button does the same.
  for (const each of place.querySelectorAll(".opblock-summary-control a[href]")) each.removeAttribute("href");
}
