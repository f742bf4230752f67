// A user of RunPod's client for JavaScript: client.cjs URL RECORDING prints what it was told as JSON.

const fs = require("node:fs")
const runpodSdk = require("runpod-sdk").default

async function main(url, recording) {
  const endpoint = runpodSdk("sesame", { baseUrl: `${url}/v2` }).endpoint("whisper")
  const audio = { input: { audio_base64: fs.readFileSync(recording).toString("base64") } }
  const told = { health: await endpoint.health() }
  told.run_sync = (await endpoint.runSync(audio, 120000)).output.transcription
  const job = await endpoint.run(audio)
  const texts = []
  for await (const segment of endpoint.stream(job.id)) texts.push(segment.output.text)
  told.streamed = texts.join(" ")
  told.output = (await endpoint.status(job.id)).output.transcription
  const failing = await endpoint.run({ input: { audio_base64: "aGVsbG8gaGVsbG8=" } })
  told.failed = (await endpoint.statusSync(failing.id)).status
  // Nobody listens there, so the job waits for its next try.
  const waiting = await endpoint.run({ input: { audio: "http://127.0.0.1:9/a.mp3" } })
  told.cancelled = (await endpoint.cancel(waiting.id)).status
  told.purged = await endpoint.purgeQueue()
  console.log(JSON.stringify(told))
}

main(...process.argv.slice(2))
