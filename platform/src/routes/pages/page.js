'use strict'
// Code shared by the pages.
const at = id => document.getElementById(id)
const make = (tag, text, className) => {
  const element = document.createElement(tag)
  if (text !== undefined) element.textContent = text
  if (className) element.className = className
  return element
}

const call = (path, options = {}) => {
  const key = sessionStorage.getItem('key')
  const headers = key ? { Authorization: `Bearer ${key}` } : {}
  return fetch(path, { ...options, headers }).then(response => {
    at('key-box').hidden = response.status !== 401
    return response
  })
}

let unlocked = () => {}
at('key-form').onsubmit = event => {
  event.preventDefault()
  sessionStorage.setItem('key', at('key').value)
  unlocked()
}

// Payloads stay JSON text, because JSON.parse rounds numbers and reorders members.

// A number, `true`, `false` or `null`.
const WORD = /[\w.+-]+/y

// Returns the position after the token of a JSON text that begins at `start`: a string, a number, a word, or one
// character of punctuation or whitespace.
const tokenEnd = (text, start) => {
  if (text[start] !== '"') {
    WORD.lastIndex = start
    return WORD.test(text) ? WORD.lastIndex : start + 1
  }
  let end = start
  while ((end = text.indexOf('"', end + 1)) !== -1) {
    let escapes = 0
    while (text[end - 1 - escapes] === '\\') escapes++
    if (escapes % 2 === 0) return end + 1
  }
  return text.length
}

// Yields the tokens of a JSON text, without whitespace.
function* tokens(text) {
  for (let start = 0, end; start < text.length; start = end) {
    end = tokenEnd(text, start)
    if (!/\s/.test(text[start])) yield text.slice(start, end)
  }
}

// Returns the members of an object or the entries of a list as pairs of a name and a JSON text. The names of entries are
// undefined. Any other value has none.
const members = text => {
  const found = []
  let depth = 0, name, start = 0
  const add = end => {
    const value = text.slice(start, end).trim()
    if (value) found.push([name, value])
    name = undefined
  }
  for (let at = 0, end; at < text.length; at = end) {
    end = tokenEnd(text, at)
    const token = text[at]
    if (token === '{' || token === '[') {
      if (++depth === 1) start = end
    } else if (token === '}' || token === ']') {
      if (--depth === 0) { add(at); break }
    } else if (depth === 1 && token === ':') {
      name = JSON.parse(text.slice(start, at))
      start = end
    } else if (depth === 1 && token === ',') {
      add(at)
      start = end
    }
  }
  return found
}

// Returns the JSON text of the member that the names lead to, or undefined.
const member = (text, ...names) => names.reduce((inside, name) =>
  inside && members(inside).findLast(([other]) => other === name)?.[1], text)

// Returns the text without escapes that are not necessary.
const plainToken = token => token[0] === '"' ? JSON.stringify(JSON.parse(token)) : token

// Formats a JSON text as JSON.stringify does, on one line.
const compact = text => [...tokens(text)].map(plainToken).join('')

// Formats a JSON text as JSON.stringify does, with an indent of two spaces.
const indented = text => {
  let shown = '', indent = '\n', before = ''
  for (const token of tokens(text)) {
    const opens = before === '{' || before === '[', closes = token === '}' || token === ']'
    if (closes) indent = indent.slice(0, -2)
    if (opens !== closes || before === ',') shown += indent
    shown += plainToken(token)
    if (token === ':') shown += ' '
    if (token === '{' || token === '[') indent += '  '
    before = token
  }
  return shown
}
