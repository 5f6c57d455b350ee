use std::marker::PhantomData;

use podwork::{Batch, Result, handler};

struct Neither;

#[handler]
fn input(inputs: Batch<Neither>) -> Vec<usize> {
    vec![0; inputs.len()]
}

#[handler]
async fn output(inputs: Batch<u32>) -> Vec<Result<Neither>> {
    inputs.iter().map(|_| Ok(Neither)).collect()
}

#[handler]
async fn error(inputs: Batch<u32>) -> std::result::Result<Vec<u32>, Neither> {
    Ok(inputs.into_iter().collect())
}

#[handler]
fn not_send(inputs: Batch<PhantomData<*const u8>>) -> Vec<usize> {
    vec![0; inputs.len()]
}

fn main() {}
