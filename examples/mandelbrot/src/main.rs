//! A worker that describes its input and output as JSON Schema, and whose input is validated before the handler runs.
//! It draws a part of the Mandelbrot set as text. Run it with `cargo run -p mandelbrot`, and print its schema with
//! `cargo run -p mandelbrot -- --rp_schema`.

use garde::Validate;
use podwork::{Context, Result, handler};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The part of the set to draw.
#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct View {
    /// Columns of text.
    #[garde(range(min = 1, max = 500))]
    width: u16,
    /// Rows of text.
    #[garde(range(min = 1, max = 500))]
    height: u16,
    /// The real and the imaginary part of the point in the middle.
    #[garde(inner(range(min = -2.0, max = 2.0)))]
    #[serde(default = "middle")]
    center: [f64; 2],
    /// The magnification; 1 shows the whole set.
    #[garde(range(min = 1.0, max = 1e12))]
    #[serde(default = "whole")]
    zoom: f64,
    /// The number of steps after which a point counts as part of the set.
    #[garde(range(min = 1, max = 10_000))]
    #[serde(default = "enough")]
    steps: u32,
    /// The characters to draw with, from points that escape at once to points of the set.
    #[garde(length(chars, min = 2, max = 64))]
    #[serde(default = "shades")]
    shades: String,
}

fn middle() -> [f64; 2] {
    [-0.5, 0.0]
}

fn whole() -> f64 {
    1.0
}

fn enough() -> u32 {
    200
}

fn shades() -> String {
    " .:-=+*#%@".to_owned()
}

/// The drawn picture.
#[derive(Serialize, JsonSchema)]
struct Picture {
    /// The rows of text, from top to bottom.
    rows: Vec<String>,
    /// The number of points that belong to the set.
    inside: usize,
}

#[handler(schema, validate)]
fn mandelbrot(view: View, cx: Context) -> Result<Picture> {
    let shades: Vec<char> = view.shades.chars().collect();
    let (width, height) = (f64::from(view.width), f64::from(view.height));
    // A character is about twice as high as it is wide.
    let side = 3.0 / view.zoom / width.min(2.0 * height);
    let mut inside = 0;
    let mut rows = Vec::new();
    for row in 0..view.height {
        if cx.is_cancelled() {
            return Err("cancelled".into());
        }
        cx.progress(u32::from(row) * 100 / u32::from(view.height));
        let y = view.center[1] + (f64::from(row) - height / 2.0) * 2.0 * side;
        let columns = (0..view.width).map(|column| {
            let x = view.center[0] + (f64::from(column) - width / 2.0) * side;
            let left = steps_until_it_leaves(x, y, view.steps);
            inside += usize::from(left.is_none());
            // Most points escape early, so the shades are logarithmic.
            let shade = left.map_or(shades.len() - 1, |left| left.ilog2() as usize);
            shades[shade.min(shades.len() - 1)]
        });
        rows.push(columns.collect());
    }
    Ok(Picture { rows, inside })
}

/// Returns the step in which a point escapes; `None` if it does not within `most` steps.
fn steps_until_it_leaves(x: f64, y: f64, most: u32) -> Option<u32> {
    let (mut re, mut im) = (0.0, 0.0);
    (1..=most).find(|_| {
        (re, im) = (re * re - im * im + x, 2.0 * re * im + y);
        re * re + im * im > 4.0
    })
}

fn main() -> podwork::ExitCode {
    podwork::run::<mandelbrot>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwork::Worker;
    use podwork::testing::{TestJob, TestWorker};
    use serde_json::json;

    #[tokio::test]
    async fn it_draws_what_is_inside_and_what_is_not() {
        let input = json!({ "width": 3, "height": 1, "zoom": 0.5 });
        let failure = TestJob::new(input).run::<mandelbrot>().await.result;
        assert_eq!(
            failure.unwrap_err().message(),
            "invalid input at `zoom`: lower than 1"
        );

        let input = json!({ "width": 30, "height": 11, "shades": " #" });
        let job = TestJob::new(input).run::<mandelbrot>().await;
        let picture = job.result.unwrap();
        let rows = picture["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 11);
        assert!(rows[5].as_str().unwrap().contains("########"), "{rows:?}");
        assert!(picture["inside"].as_u64().unwrap() > 30, "{picture}");
    }

    #[test]
    fn what_it_tells_is_what_it_checks() {
        let schema = podwork::schema::<mandelbrot>();
        let fields = &schema.input["properties"];
        assert_eq!(fields["width"]["maximum"], 500);
        assert_eq!(fields["shades"]["minLength"], 2);
        assert_eq!(schema.input["required"], json!(["width", "height"]));
        assert_eq!(schema.output["properties"]["inside"]["type"], "integer");
    }

    #[tokio::test]
    async fn a_job_goes_through_a_whole_worker() {
        let worker = TestWorker::start(Worker::new::<mandelbrot>())
            .await
            .unwrap();
        let job = worker
            .run(json!({ "width": 0, "height": 501 }))
            .await
            .unwrap();
        let error = job.result.unwrap_err();
        assert_eq!(
            error.message(),
            "invalid input at `height`: greater than 500; at `width`: lower than 1"
        );
        worker.stop().await.unwrap();
    }
}
