#![allow(unused)]

use std::rc::Rc;

use podwork::{Stream, handler, stream};

async fn pause() {}

#[handler]
async fn count() -> usize {
    let held = Rc::new(1);
    pause().await;
    *held
}

#[handler]
fn counts() -> impl Stream<Item = usize> {
    stream! {
        let held = Rc::new(1);
        pause().await;
        yield *held;
    }
}

fn main() {}
