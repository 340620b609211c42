// Runs at CloudFront's edge for every request to the web app (never for /v1/* and /api/*): the app's own routes, such
// as /chat/abc, are all its one page. Language: CloudFront's JavaScript runtime 2.0. 1 ms, no network, no state.

// A file's name ends in a dot and letters or digits, of which the first is a letter. A model's name is no file:
// /models/Qwen2.5-7B and /models/Llama-3.1 are routes.
const FILE = /\.[A-Za-z][A-Za-z0-9]*$/;

function handler(event) {
  const request = event.request;
  if (!FILE.test(request.uri)) {
    request.uri = "/index.html";
  }
  return request;
}
