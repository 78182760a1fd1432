// Drives MQTT.js. argv[2] is the folder with the npm packages; the job comes as JSON on standard
// input, the result goes as JSON to standard output.
//   {do: "provision", port, version, requests: [...]}  → [answer, ...], all sent at once
//   {do: "work", port, version, username, telemetry, attributes} → {connack, attributes}
"use strict";

const path = require("node:path");
const mqtt = require(path.join(process.argv[2], "mqtt"));

const ATTRIBUTES = "v1/devices/me/attributes";

function options(job, username) {
  return {
    host: "127.0.0.1",
    port: job.port,
    username,
    protocolVersion: job.version,
    protocolId: job.version === 3 ? "MQIsdp" : "MQTT",
    clientId: "mqttjs" + Math.random().toString(16).slice(2, 12),
    reconnectPeriod: 0,
    connectTimeout: 10_000,
  };
}

async function nextMessage(client) {
  return new Promise((resolve, reject) => {
    client.once("message", (topic, body) => resolve({ topic, body: JSON.parse(body) }));
    client.once("close", () => reject(new Error("closed without an answer")));
  });
}

async function provision(job, request) {
  const client = await mqtt.connectAsync(options(job, "provision"));
  const heard = nextMessage(client);
  await client.subscribeAsync("/provision/response", { qos: 1 });
  await client.publishAsync("/provision/request", JSON.stringify(request), { qos: 1 });
  const { body } = await heard;
  await client.endAsync();
  return body;
}

async function work(job) {
  const client = await mqtt.connectAsync(options(job, job.username), false);
  await client.publishAsync("v1/devices/me/telemetry", JSON.stringify(job.telemetry), { qos: 1 });
  await client.publishAsync(ATTRIBUTES, JSON.stringify(job.attributes), { qos: 1 });
  await client.subscribeAsync(ATTRIBUTES + "/response/+", { qos: 1 });
  const heard = nextMessage(client);
  await client.publishAsync(ATTRIBUTES + "/request/1", "{}", { qos: 1 });
  const { topic, body } = await heard;
  await client.endAsync();
  return { topic, attributes: body };
}

async function refused(job) {
  try {
    await mqtt.connectAsync(options(job, job.username), false);
  } catch (error) {
    return { code: error.code };
  }
  return { code: 0 };
}

async function main() {
  let text = "";
  for await (const part of process.stdin) text += part;
  const job = JSON.parse(text);
  const tasks = {
    provision: () => Promise.all(job.requests.map((request) => provision(job, request))),
    work: () => work(job),
    refused: () => refused(job),
  };
  process.stdout.write(JSON.stringify(await tasks[job.do]()), () => process.exit(0));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
