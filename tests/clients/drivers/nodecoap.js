// Drives node-coap. argv[2] is the folder with the npm packages; the job comes as JSON on standard
// input: a list of requests {port, method, path, query, body, confirmable}, all sent at once. The
// result, [{code, payload}, ...], goes as JSON to standard output.
"use strict";

const path = require("node:path");
const coap = require(path.join(process.argv[2], "coap"));

function ask({ port, method, pathname, query, body, confirmable }) {
  return new Promise((resolve, reject) => {
    const request = coap.request({ host: "127.0.0.1", port, method, pathname, query, confirmable });
    if (body !== null) request.setOption("Content-Format", "application/json");
    request.on("response", (response) =>
      resolve({ code: response.code, payload: response.payload.toString() }),
    );
    request.on("error", reject);
    request.end(body === null ? undefined : JSON.stringify(body));
  });
}

async function main() {
  let text = "";
  for await (const part of process.stdin) text += part;
  const told = await Promise.all(JSON.parse(text).requests.map(ask));
  process.stdout.write(JSON.stringify(told), () => process.exit(0));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
