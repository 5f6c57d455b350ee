// Tests the console in a real browser: submitting, streaming, cancelling, retrying, purging, and the schemas of a
// worker. Fails if the page logs an error.
// usage: node console.mjs <worker binary> <its folder> <worker binary with a schema> <browser> [folder for screenshots]
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

const [worker, folder, telling, executablePath, shots] = process.argv.slice(2)

// Starts the worker with its local platform, and returns the process and the platform's URL.
const serve = async (worker, cwd) => {
  const child = spawn(worker, ['--rp_serve_api', '--rp_api_port', '0'], { cwd, stdio: ['ignore', 'pipe', 'inherit'] })
  for await (const line of createInterface(child.stdout)) {
    const url = line.match(/at (http:\S+)/)?.[1]
    if (!url) continue
    child.stdout.resume()
    return { child, url }
  }
  throw new Error('the worker did not print its URL')
}

const { child, url } = await serve(worker, folder)
const other = await serve(telling, tmpdir())
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
const complaints = []
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } })
  page.on('console', message => message.type() === 'error' && complaints.push(message.text()))
  page.on('pageerror', error => complaints.push(String(error)))
  page.on('request', request => assert.ok([url, other.url].some(url => request.url().startsWith(url)) || request.url().startsWith('data:'), request.url()))
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
  assert.deepEqual(complaints, [])
  console.log('all passed')
} finally {
  await browser.close()
  for (const ending of [child, other.child]) {
    ending.kill('SIGTERM')
    await once(ending, 'exit')
  }
}
