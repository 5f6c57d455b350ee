//! Runs one operation of podwork's cache, and prints how many seconds it took.

use std::time::Instant;

use podwork::cache::VolumeCache;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || {
        arguments
            .next()
            .ok_or("usage: cache-contender hydrate|sync DIRECTORY VOLUME")
    };
    let (what, directory, volume) = (next()?, next()?, next()?);
    let cache = VolumeCache::new([directory]).volume(volume).name("bench");
    let began = Instant::now();
    let problem = match what.as_str() {
        "hydrate" => cache.hydrate().await.problem,
        "sync" => cache.sync().await.problem,
        other => return Err(format!("unknown step `{other}`: expected hydrate or sync").into()),
    };
    let took = began.elapsed();
    if let Some(problem) = problem {
        return Err(problem.into());
    }
    println!("{}", took.as_secs_f64());
    Ok(())
}
