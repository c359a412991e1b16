// node ort111.js JOB.json: runs each file once, writes its first output beside the job as float32.
const fs = require('fs');
const job = JSON.parse(fs.readFileSync(process.argv[2]));
const ort = require(job.package);

async function run(file, index) {
  const session = await ort.InferenceSession.create(file, {
    graphOptimizationLevel: 'all', intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3,
  });
  const bytes = fs.readFileSync(job.inputs);
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const input = new ort.Tensor('float32', values, job.shape);
  const outputs = await session.run({ [session.inputNames[0]]: input });
  const first = outputs[session.outputNames[0]];
  fs.writeFileSync(`${job.outputs}/${index}.f32`,
    Buffer.from(first.data.buffer, first.data.byteOffset, first.data.byteLength));
  return first.dims;
}

(async () => {
  const shapes = [];
  for (const [index, file] of job.files.entries()) {
    try {
      shapes.push(await run(file, index));
    } catch (error) {
      throw new Error(`${file}: ${error.message}`);
    }
  }
  fs.writeFileSync(`${job.outputs}/shapes.json`, JSON.stringify(shapes));
})().catch((error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
