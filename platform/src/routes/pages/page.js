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
