//! A worker whose output is a file: it draws a bar chart, uploads it, and returns the URL. Run it with
//! `cargo run -p chart`. Without a bucket, the file is written to the folder `simulated_uploaded`.

use std::fmt::Write as _;

use podwork::files::{Upload, Uploaded};
use podwork::{Context, Result, handler};
use serde::Deserialize;

/// The width and height of the area of one bar, in pixels.
const WIDTH: usize = 40;
const HEIGHT: f64 = 200.0;

#[derive(Deserialize)]
struct Bars {
    values: Vec<f64>,
}

#[handler]
async fn chart(bars: Bars, cx: Context) -> Result<Uploaded> {
    let svg = draw(&bars.values)?;
    Ok(Upload::new(&cx).bytes("chart.svg", svg).await?)
}

fn draw(values: &[f64]) -> Result<String> {
    if values.is_empty() || values.iter().any(|value| *value < 0.0) {
        return Err("pass at least one value, and none below 0".into());
    }
    let highest = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let width = WIDTH * values.len();
    let mut svg =
        format!(r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}">"#);
    for (at, value) in values.iter().enumerate() {
        let (x, height) = (WIDTH * at + 4, HEIGHT * value / highest);
        let (y, width) = (HEIGHT - height, WIDTH - 8);
        write!(
            svg,
            r#"<rect x="{x}" y="{y}" width="{width}" height="{height}"/>"#
        )?;
    }
    svg.push_str("</svg>");
    Ok(svg)
}

fn main() -> podwork::ExitCode {
    podwork::run::<chart>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwork::Worker;
    use podwork::testing::TestWorker;
    use serde_json::json;

    #[test]
    fn the_highest_bar_is_as_high_as_the_picture() {
        let svg = draw(&[1.0, 4.0]).unwrap();
        assert!(svg.contains(r#"width="80" height="200""#), "{svg}");
        assert!(svg.contains(r#"y="150" width="32" height="50""#), "{svg}");
        assert!(svg.contains(r#"y="0" width="32" height="200""#), "{svg}");
    }

    #[tokio::test]
    async fn a_job_goes_through_a_whole_worker() {
        // Without a bucket, uploads are files in the working directory.
        let home = tempfile::tempdir().unwrap();
        std::env::set_current_dir(home.path()).unwrap();
        let worker = TestWorker::start(Worker::new::<chart>()).await.unwrap();
        let job = worker.run(json!({ "values": [1.0, 4.0] })).await.unwrap();
        let output = job.result.unwrap();
        let path = output.as_str().unwrap().strip_prefix("file://");
        let svg = std::fs::read_to_string(path.unwrap()).unwrap();
        assert_eq!(svg, draw(&[1.0, 4.0]).unwrap());

        let job = worker.run(json!({ "values": [] })).await.unwrap();
        let error = job.result.unwrap_err();
        assert!(error.message().contains("at least one value"), "{error}");
        worker.stop().await.unwrap();
    }
}
