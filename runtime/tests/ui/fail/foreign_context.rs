#![allow(unused)]

use podwork::handler;

struct Context;

#[handler]
async fn mine(cx: Context) {}

fn main() {}
