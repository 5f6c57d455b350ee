// Tests the console in a real browser: submitting, streaming, cancelling, retrying, purging, the digits of payloads, and
// the schemas of a worker. Fails if the page logs an error.
// usage: node console.mjs <worker binary> <its folder> <worker binary with a schema> <platform binary> <browser>
//        [folder for screenshots]
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

const [worker, folder, telling, platform, executablePath, shots] = process.argv.slice(2)

// Starts a worker with its local platform, or a platform, and returns the process and the platform's URL.
const serve = async (program, cwd, ...args) => {
  const child = spawn(program, args, { cwd, stdio: ['ignore', 'pipe', 'inherit'] })
  for await (const line of createInterface(child.stdout)) {
    const url = line.match(/(?:at|Console:) (http:\S+)/)?.[1]
    if (!url) continue
    child.stdout.resume()
    return { child, url }
  }
  throw new Error(`${program} did not print its URL`)
}

const api = ['--rp_serve_api', '--rp_api_port', '0']
const { child, url } = await serve(worker, folder, ...api)
const other = await serve(telling, tmpdir(), ...api)
const bare = await serve(platform, tmpdir(), '--port', '0')
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
const complaints = []
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } })
  page.on('console', message => message.type() === 'error' && complaints.push(message.text()))
  page.on('pageerror', error => complaints.push(String(error)))
  page.on('request', request => assert.ok([url, other.url, bare.url].some(url => request.url().startsWith(url)) || request.url().startsWith('data:'), request.url()))
  const shot = name => shots && page.screenshot({ path: `${shots}/${name}.png`, fullPage: true })
  const text = selector => page.textContent(selector)
  const until = (selector, wanted) => page.waitForFunction(([selector, wanted]) =>
    document.querySelector(selector)?.textContent.includes(wanted), [selector, wanted], { timeout: 20000 })
  const submit = async input => {
    await page.fill('#request', JSON.stringify({ input }))
    await page.press('#request', 'Control+Enter')
  }

  await page.goto(url)
  await until('#link', 'live')
  await until('#workers', 'local')
  assert.match(await page.inputValue('#request'), /prompt/, 'the form starts with test_input.json')

  // The chunks of a stream appear while the job runs.
  await submit({ prompt: 'one two three four five six', delay_ms: 150 })
  await until('#job-chunks', 'two')
  assert.doesNotMatch(await text('#job-chunks'), /six/)
  assert.equal(await text('#job-status'), 'IN_PROGRESS')
  assert.equal(await page.locator('#job-progress progress').count(), 1, 'progress is a bar')
  await shot('running')
  await until('#job-status', 'COMPLETED')
  assert.equal(await page.locator('#job-chunks > div').count(), 6)

  // One job runs and is cancelled; others are queued and purged.
  await submit({ prompt: 'never ends', delay_ms: 3600000 })
  await until('#job-status', 'IN_PROGRESS')
  const running = await text('#job-title')
  for (let waiting = 1; waiting <= 3; waiting++) {
    await submit({ prompt: 'waits' })
    await until('#counts', `queued ${waiting}`)
  }
  await shot('queue')
  await page.click('#purge')
  await until('#counts', 'queued 0')
  await page.focus(`button[title="${running}"]`)
  await page.keyboard.press('Enter')
  await until('#job-title', running)
  await page.click('#cancel')
  await until('#job-status', 'CANCELLED')

  // A job fails and is retried.
  await submit({ wrong: 'input' })
  await until('#job-status', 'FAILED')
  assert.match(await text('#job-error'), /prompt/)
  await shot('failed')
  await page.click('#retry')
  await until('#counts', 'failed 2')

  // The form reports invalid JSON and sends nothing.
  await page.fill('#request', '{')
  await page.click('#form button')
  await until('#form-says', 'JSON')

  // The page of operations can run an operation, and shows its response.
  await page.click('nav a[href="/docs"]')
  await page.click('#run summary')
  await page.fill('#run textarea', JSON.stringify({ input: { prompt: 'tried', delay_ms: 0 } }))
  await page.click('#run button')
  await until('#run strong', '200')
  await until('#run pre', 'IN_QUEUE')
  await page.click('#status_sync summary')
  assert.match(await page.inputValue('#status_sync input[name=job]'), /^[0-9a-f-]{36}$/, 'the id of the new job is filled in')
  await page.click('#status_sync button')
  await until('#status_sync pre', 'COMPLETED')
  assert.equal(await page.locator('#operations details').count(), 9)
  await shot('docs')
  await page.goto(url)
  await until('#link', 'live')

  await page.emulateMedia({ colorScheme: 'dark' })
  await shot('dark')
  await page.setViewportSize({ width: 420, height: 900 })
  await shot('narrow')

  // A worker with a schema, in a folder without a test_input.json: the forms start with an example that can be sent
  // unchanged.
  await page.emulateMedia({ colorScheme: 'light' })
  await page.setViewportSize({ width: 1280, height: 900 })
  await page.goto(other.url)
  await until('#link', 'live')
  const example = { input: { center: [-0.5, 0], height: 1, shades: ' .:-=+*#%@', steps: 200, width: 1, zoom: 1 } }
  assert.deepEqual(JSON.parse(await page.inputValue('#request')), example)
  await page.click('nav a[href="/docs"]')
  await page.click('#runsync summary')
  await until('#runsync', 'The part of the set to draw.')
  await until('#runsync', 'Columns of text.')
  await until('#runsync', '1 to 500')
  await until('#runsync', 'default 200')
  await until('#runsync', 'The number of points that belong to the set.')
  await page.click('#runsync summary:has-text("JSON Schema")')
  await until('#runsync details pre', '"maximum": 500')
  assert.deepEqual(JSON.parse(await page.inputValue('#runsync textarea')), example)
  await page.click('#runsync button')
  await until('#runsync form > pre', 'rows')
  await page.fill('#runsync textarea', JSON.stringify({ input: { width: 0, height: 1 } }))
  await page.click('#runsync button')
  await until('#runsync form > pre', 'invalid input at `width`: lower than 1')
  await shot('schema')

  // Payloads keep the digits and the order of members with which a client and a worker post them.
  const payload = '{"2":5400121572116418999,"1":[1.0,1e400,-0,1E-7,"\\u00e9\\""],"0":{},"":[]}'
  const shown = `{
  "2": 5400121572116418999,
  "1": [
    1.0,
    1e400,
    -0,
    1E-7,
    "é\\""
  ],
  "0": {},
  "": []
}`
  await page.goto(bare.url)
  await until('#link', 'live')
  const posted = async (path, options) => {
    const response = await fetch(`${bare.url}v2/local/${path}`, { ...options, headers: { Authorization: 'local' } })
    assert.equal(response.status, 200, path)
    return response.text()
  }
  const job = async () => {
    await page.fill('#request', `{"input":${payload}}`)
    await page.press('#request', 'Control+Enter')
    const taken = await posted('job-take/w')
    assert.ok(taken.includes(payload), taken)
    await until('#job-status', 'IN_PROGRESS')
    assert.equal(await text('#job-title'), JSON.parse(taken).id)
    return (kind, members) => posted(`${kind}/w/${JSON.parse(taken).id}`, { method: 'POST', body: `{${members}}` })
  }
  const percent = wanted => page.waitForSelector(`#job-progress progress[aria-label="${wanted} %"]`)
  let post = await job()
  await post('job-done', '"status":"IN_PROGRESS","output":1')
  await percent(1)
  await post('job-done', '"status":"IN_PROGRESS","output":1.0')
  await percent(100)
  await page.waitForSelector('#jobs progress[aria-label="100 %"]')
  assert.equal(await text('#job-progress'), '1.0')
  await post('job-done', `"status":"IN_PROGRESS","output":${payload}`)
  const line = shown.replace(/\s/g, '')
  await until('#job-progress', line)
  await until('#jobs', line)
  await post('job-stream', `"output":${payload}`)
  await until('#job-chunks', shown)
  await post('job-done', `"output":${payload}`)
  await until('#job-status', 'COMPLETED')
  assert.equal(await text('#job-output'), shown)
  await shot('digits')
  post = await job()
  await post('job-done', '"status":"IN_PROGRESS","output":0.5')
  await percent(50)
  await post('job-done', '"status":"IN_PROGRESS","output":1')
  await percent(100)
  await post('job-done', '"error":"5400121572116418999"')
  await until('#job-status', 'FAILED')
  assert.equal(await text('#job-error'), '5400121572116418999')
  post = await job()
  await post('job-done', `"error":${JSON.stringify(`{"error_type":"Odd","error_message":${payload}}`)}`)
  await until('#job-status', 'FAILED')
  assert.equal(await text('#job-error'), `Odd: ${shown}`)
  await page.goto(`${bare.url}docs`)
  await page.click('#runsync summary')
  await page.fill('#runsync textarea', `{"input":${payload}}`)
  const answered = posted('job-take/w')
  await page.click('#runsync button')
  const { id } = JSON.parse(await answered)
  await posted(`job-done/w/${id}`, { method: 'POST', body: `{"output":${payload}}` })
  await until('#runsync form > pre', '"2": 5400121572116418999')

  assert.deepEqual(complaints, [])
  console.log('all passed')
} finally {
  await browser.close()
  for (const ending of [child, other.child, bare.child]) {
    ending.kill('SIGTERM')
    await once(ending, 'exit')
  }
}
