// The real OpenTelemetry exporters for Node in the steps of a case.
//
// Arguments: PACKAGE (the package.json beside which the dependencies are) DIRECTORY (of certificates) FILE (of cases).
// The same as `pod-client cases`, see there; the steps are `tls12`, `tls13` and `plain`.
"use strict";

const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { createSecureContext } = require("node:tls");

const [packageFile, directory, file] = process.argv.slice(2);
const installed = createRequire(packageFile);
const { credentials } = installed("@grpc/grpc-js");
const { OTLPTraceExporter: GrpcExporter } = installed("@opentelemetry/exporter-trace-otlp-grpc");
const { OTLPTraceExporter: HttpExporter } = installed("@opentelemetry/exporter-trace-otlp-proto");
const { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } = installed("@opentelemetry/sdk-trace-base");

const VERSIONS = { tls12: "TLSv1.2", tls13: "TLSv1.3" };
const PATIENCE = 10000;

function options(step) {
  if (!(step in VERSIONS)) throw new Error(`no step is called ${step}`);
  return { ca: readFileSync(`${directory}/ca.crt`), minVersion: VERSIONS[step], maxVersion: VERSIONS[step] };
}

function exporterFor({ protocol, target }, step) {
  const scheme = step === "plain" ? "http" : "https";
  if (protocol === "grpc") {
    const tls = step === "plain" ? undefined : credentials.createFromSecureContext(createSecureContext(options(step)));
    return new GrpcExporter({ url: `${scheme}://${target}`, credentials: tls, timeoutMillis: PATIENCE });
  }
  const httpAgentOptions = step === "plain" ? {} : options(step);
  return new HttpExporter({ url: `${scheme}://${target}/v1/traces`, httpAgentOptions, timeoutMillis: PATIENCE });
}

// A span as the SDK makes it.
function oneSpan() {
  const memory = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(memory)] });
  provider.getTracer("cases").startSpan("checkout").end();
  return memory.getFinishedSpans();
}

async function runStep(one, step) {
  const exporter = exporterFor(one, step);
  const result = await new Promise((done) => exporter.export(oneSpan(), done));
  await exporter.shutdown();
  if (result.code !== 0) throw result.error ?? new Error("not exported");
}

async function runCase(one) {
  for (const step of one.steps) {
    try {
      await runStep(one, step);
      console.log(`${one.name} ${step} ok`);
    } catch (error) {
      console.log(`${one.name} ${step} failed: ${JSON.stringify(String(error))}`);
    }
  }
}

console.log(`pid ${process.pid}`);
Promise.all(JSON.parse(readFileSync(file, "utf8")).map(runCase));
