#![allow(unused)]

use std::sync::Arc;

use podwork::{Context, handler};
use serde::Deserialize;

struct Model;

#[derive(Deserialize)]
struct Request {
    prompt: String,
}

#[handler]
async fn second(prompt: String, model: Model) {}

#[handler]
async fn first(model: Model, prompt: String) {}

#[handler]
async fn shared(prompt: String, model: Arc<Model>) {}

#[handler]
async fn either(request: Request, model: Arc<tokio::sync::Mutex<Model>>) {}

#[handler]
async fn optional_context(prompt: String, cx: Option<Context>) {}

#[handler]
async fn alone(model: Arc<Model>) {}

fn main() {}
